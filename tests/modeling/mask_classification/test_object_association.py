"""Windows of the object encoder; values of the official code are in test_golden.py."""

from typing import Any

import pytest
import torch

from amodal2.modeling.mask_classification import object_association
from amodal2.modeling.mask_classification.object_association import ObjectAssociation


def build(**changes: Any) -> ObjectAssociation:
    torch.manual_seed(0)
    options = {
        "in_dim": 16,
        "mask_feature_dim": 16,
        "hidden_dim": 16,
        "num_classes": 2,
        "num_frame_queries": 3,
        "num_queries": 4,
        "num_heads": 2,
        "hidden_ffn": 16,
        "enc_layers": 2,
        "dec_layers": 1,
        "window_size": 3,
    }
    return ObjectAssociation(**(options | changes))


def encode(model: ObjectAssociation, training: bool = False) -> torch.Tensor:
    tokens = torch.randn(2, 8, 3, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.train(training).encode(tokens)


@pytest.mark.parametrize("group", [1, 9, 20])
def test_encode_groups_of_windows_equal_all_at_once(
    monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    expected = encode(build())
    monkeypatch.setattr(object_association, "_GROUP_TOKENS", group)
    torch.testing.assert_close(encode(build()), expected)


@pytest.mark.parametrize(
    ("shift", "in_training", "in_tests"),
    [("test", False, True), ("always", True, True), ("never", False, False)],
)
def test_encode_window_shift_is_used_when_configured(
    shift: str, in_training: bool, in_tests: bool
) -> None:
    plain, shifted = encode(build(window_shift="never")), encode(build(window_shift="always"))
    assert not torch.allclose(plain, shifted)
    for training, expected in ((True, in_training), (False, in_tests)):
        found = encode(build(window_shift=shift), training)
        torch.testing.assert_close(found, shifted if expected else plain)


def test_association_unknown_window_shift_is_named() -> None:
    with pytest.raises(ValueError, match="ENC_WINDOW_SHIFT test, always or never, got 'half'"):
        build(window_shift="half")
