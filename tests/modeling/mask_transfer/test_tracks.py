"""One reference through a video: votes of all frames, smoothing, and the completer."""

import itertools

import pytest
import torch

from amodal2.modeling.completion import build_completer
from amodal2.modeling.completion.base import ObjectClip
from amodal2.modeling.mask_transfer.inference import MaskTransferrer, encode_references
from amodal2.modeling.mask_transfer.model import MaskTransfer
from amodal2.modeling.mask_transfer.options import TransferOptions
from amodal2.modeling.mask_transfer.queries import Scene
from amodal2.modeling.mask_transfer.tracks import complete_track, smooth
from tests.modeling.mask_transfer.toy import crop, thing, toy_network


def test_smoothing_keeps_steady_motion_and_fills_gaps():
    times = [2, 3, 6, 7]
    line = torch.tensor([[1.0 + 2 * t, -t] for t in times])
    expected = torch.tensor([[1.0 + 2 * t, -t] for t in range(2, 8)])
    for sigma in (0.0, 1.0, 5.0):
        torch.testing.assert_close(smooth(line, times, sigma), expected, atol=1e-3, rtol=1e-4)


def test_smoothing_lessens_jumps():
    values = torch.tensor([[0.0], [0.0], [6.0], [0.0], [0.0]])
    found = smooth(values, [0, 1, 2, 3, 4], 1.0)
    assert 0 < found[2] < 4
    assert smooth(values, [0, 1, 2, 3, 4], 0.0).equal(values)
    assert smooth(values[:1], [7], 1.0).tolist() == [[0.0]]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return toy_network()


@pytest.fixture(scope="module")
def bank(network):
    parts = [crop(*thing(kind)) for kind in (0, 1)]
    return encode_references(network, *zip(*parts, strict=True), [3, 3], ["full", "notched"])


def scenes(kinds):
    """Show a thing per frame; None hides it."""
    found = []
    for kind in kinds:
        image, mask = thing(kind or 0)
        visible = mask if kind is not None else torch.zeros_like(mask)
        found.append(Scene(image, visible, ~visible & mask))
    return found


def set_logits(monkeypatch, rows):
    """Let the references have the given log-odds in one frame after the other, again and again."""
    real, left = MaskTransferrer.match, itertools.cycle(rows)

    def match(self, query):
        found = real(self, query)
        found.logits = torch.tensor(next(left))
        return found

    monkeypatch.setattr(MaskTransferrer, "match", match)


def run(network, bank, shown, **options):
    return complete_track(MaskTransferrer(network, bank, TransferOptions(**options)), shown, 3)


def test_track_vote_takes_the_reference_with_the_highest_sum(network, bank, monkeypatch):
    rows, shown = [[0.0, 1.0], [0.0, 1.0], [9.0, 0.0]], scenes([0, 0, 0])
    set_logits(monkeypatch, rows)
    alone = run(network, bank, shown)
    assert alone[0].sum() < alone[2].sum()  # notched, notched, full
    together = run(network, bank, shown, track_vote=True, track_smooth=0.0)
    assert len({int(mask.sum()) for mask in together}) == 1
    assert together[0].equal(alone[2])


@pytest.mark.parametrize("options", [{}, {"topk": 2, "rerank": 1.0, "union_visible": True}])
def test_track_vote_fills_frames_between_that_do_not_show_the_object(network, bank, options):
    found = run(network, bank, scenes([0, None, 0, None]), track_vote=True, **options)
    assert found[1].any()
    both, either = (f(found[0], found[1]).sum() for f in (torch.mul, torch.add))
    assert both / either > 0.9
    assert not found[3].any()  # after its last frame nothing is known


def test_track_keeps_visible_masks_where_nothing_can_be_transferred(network, bank):
    shown = scenes([0, None])
    for options in ({"min_score": 1.0, "track_vote": True}, {"min_score": 1.0}):
        found = run(network, bank, shown, **options)
        assert found[0].equal(shown[0].visible)
    assert not complete_track(MaskTransferrer(network, bank, TransferOptions()), scenes([None]), 3)[
        0
    ].any()


def test_track_vote_and_shortlist_exclude_each_other():
    with pytest.raises(ValueError, match="SHORTLIST 0 with TRACK_VOTE"):
        TransferOptions(track_vote=True, shortlist=4)
    with pytest.raises(ValueError, match="TRACK_SMOOTH >= 0"):
        TransferOptions(track_smooth=-1.0)


def test_completer_gives_the_masks_of_tracks(network, bank, tmp_path):
    bank.save(tmp_path / "bank.pth")
    model = MaskTransfer(
        network=network,
        options=TransferOptions(track_vote=True),
        pixel_mean=(1.0, 2.0, 3.0),
        pixel_std=(50.0,) * 3,
    ).eval()
    rgb = torch.rand(3, 4, 5)
    expected = (255 * rgb.flip(0) - torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)) / 50
    torch.testing.assert_close(model.normalize_rgb(rgb), expected)
    shown = scenes([0, None, 1])
    clip = ObjectClip(
        visible=torch.stack([scene.visible for scene in shown])[None],
        others=torch.stack([scene.others for scene in shown])[None],
        windows=torch.zeros(1, 3, 4),
        frames=torch.rand(1, 3, 3, 40, 48),
    )
    for class_id in (None, 3):
        completer = build_completer(
            "mask_transfer", model=model, bank=str(tmp_path / "bank.pth"), class_id=class_id
        )
        found = completer.complete(clip).amodal
        assert found.shape == (1, 1, 3, 40, 48)
        assert found.flatten(3).any(dim=3).all()
    with pytest.raises(ValueError, match=r"expected a class of \[3\], got 1, which has no ref"):
        build_completer("mask_transfer", model=model, bank=str(tmp_path / "bank.pth"), class_id=1)
