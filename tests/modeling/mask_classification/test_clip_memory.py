"""The memory of clip queries; values of the official code are in test_golden.py."""

import pytest
import torch

from amodal2.modeling.mask_classification.clip_memory import ClipMemory, RecurrentAssociation


def build(**options: int) -> RecurrentAssociation:
    return RecurrentAssociation(
        in_dim=16,
        mask_feature_dim=16,
        hidden_dim=16,
        num_classes=2,
        num_frame_queries=3,
        num_queries=4,
        num_heads=2,
        hidden_ffn=16,
        enc_layers=1,
        dec_layers=2,
        **options,
    ).eval()


def run(model: RecurrentAssociation, clips: torch.Tensor) -> list[ClipMemory]:
    memory, memories = None, []
    with torch.no_grad():
        for queries in clips:
            _, memory = model.next_clip(queries, memory)
            memories.append(memory)
    return memories


def test_read_equals_the_diagonal_of_the_full_product() -> None:
    queries, keys, values = (
        torch.randn(2, 4, 16),
        torch.randn(3, 2, 4, 16),
        torch.randn(3, 2, 4, 16),
    )
    read = RecurrentAssociation._read(queries, ClipMemory(queries, keys, values))
    product = torch.einsum("xqc,mxpc->xqpm", queries, keys).softmax(-1)
    full = torch.einsum("xqpm,mxpc->xqpc", product, values)
    torch.testing.assert_close(read, full.diagonal(dim1=1, dim2=2).transpose(1, 2))


def test_next_clip_memory_cap_keeps_the_latest_clips() -> None:
    clips = torch.randn(5, 1, 2, 3, 3, 16)
    torch.manual_seed(0)
    whole = run(build(), clips)
    torch.manual_seed(0)
    capped = run(build(memory_cap=2), clips)
    assert [len(m.keys) for m in whole] == [1, 2, 3, 4, 5]
    assert [len(m.keys) for m in capped] == [1, 2, 2, 2, 2]
    assert torch.equal(capped[2].state, whole[2].state)  # both read clips 0 and 1
    assert not torch.equal(capped[3].state, whole[3].state)
    assert not torch.equal(capped[3].keys[0], whole[3].keys[0])


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_next_clip_videos_of_a_batch_do_not_mix(clip: int) -> None:
    model, clips = build(), torch.randn(3, 2, 2, 3, 3, 16)
    together, alone = run(model, clips)[clip], run(model, clips[:, :, 1:])[clip]
    torch.testing.assert_close(together.state.view(2, 2, 4, 16)[:, 1], alone.state)
    torch.testing.assert_close(together.keys.unflatten(1, (2, 2))[:, :, 1], alone.keys)
