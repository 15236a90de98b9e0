import pytest
import torch

from amodal2.modeling.mask_transfer.inference import encode_references
from amodal2.modeling.mask_transfer.reference_bank import ReferenceBank
from tests.modeling.mask_transfer.toy import crop, thing, toy_network


@pytest.fixture(scope="module")
def network():
    return toy_network()


def build(network, *kinds, names=None):
    parts = [crop(*thing(kind)) for kind in kinds]
    names = names or [f"thing {kind}" for kind in kinds]
    return encode_references(network, *zip(*parts, strict=True), [0] * len(kinds), names)


def equal(one, other):
    tensors = ("concepts", "cells", "masks", "sizes", "classes")
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in tensors) and (
        (one.sources, one.encoder, one.info) == (other.sources, other.encoder, other.info)
    )


def test_bank_is_the_same_after_saving_and_reading_with_weights_only(network, tmp_path):
    bank = build(network, 0, 1)
    bank.info["dataset"] = "toys"
    bank.save(tmp_path / "bank.pth")
    assert equal(ReferenceBank.load(tmp_path / "bank.pth"), bank)
    content = torch.load(tmp_path / "bank.pth", weights_only=True)
    assert content["masks"].dtype == torch.uint8
    assert [path.name for path in tmp_path.iterdir()] == ["bank.pth"]
    assert bank.sizes.tolist() == [[32, 40], [32, 40]]
    assert bank.cells.tolist() == [[8, 10], [8, 10]]


def test_bank_extended_is_the_bank_of_all_references(network):
    small = torch.nn.functional.interpolate(thing(0)[0][None], scale_factor=2)[0][:, :, :70]
    mask = torch.ones(small.shape[1:], dtype=torch.bool)
    other = encode_references(network, [small], [mask], [1], ["small"])
    joined = build(network, 0, 1).extended(other)
    assert len(joined) == 3
    assert joined.classes.tolist() == [0, 0, 1]
    assert joined.masks[2, : other.masks.shape[1], : other.masks.shape[2]].equal(other.masks[0])
    assert equal(joined.extended(other), joined)
    assert equal(build(network, 0).extended(build(network, 1)), build(network, 0, 1))


def test_bank_of_other_weights_is_not_joined(network):
    with pytest.raises(ValueError, match="encode all of them with one model"):
        build(network, 0).extended(build(toy_network(seed=1), 1))


def test_bank_without_references_is_refused(network):
    with pytest.raises(ValueError, match="at least one reference"):
        ReferenceBank.from_references([], [], [], [], "x")
    with pytest.raises(ValueError, match="classes and sources"):
        ReferenceBank.from_references([torch.zeros(2, 1, 1)], [], [0], ["a"], "x")


def test_bank_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        ReferenceBank.load(tmp_path / "bank.pth")
    (tmp_path / "text.pth").write_text("no bank")
    with pytest.raises(ValueError, match="cannot be read"):
        ReferenceBank.load(tmp_path / "text.pth")
    torch.save({"version": 0}, tmp_path / "old.pth")
    with pytest.raises(ValueError, match="version 1, got 0"):
        ReferenceBank.load(tmp_path / "old.pth")
