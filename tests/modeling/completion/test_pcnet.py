"""PCNet-M: samples, names, loss, order, whole videos."""

import numpy as np
import pytest
import torch

from amodal2.data.datasets.video_amodal import load_video_amodal_json
from amodal2.data.mappers.eraser_patch import EraserPatchMapper, add_erasers
from amodal2.data.synthetic.gum_writer import GumSpec, write_gum_split
from amodal2.modeling.completion import build_completer
from amodal2.modeling.completion.pcnet import PCNetCompleter, PCNetM
from amodal2.structures.crop_window import square_windows
from tests.modeling.completion.clips import rectangle

SIZE = (24, 32)


@pytest.fixture(scope="module")
def dicts(tmp_path_factory):
    root = tmp_path_factory.mktemp("gum")
    return load_video_amodal_json(write_gum_split(GumSpec(frames=5), root, "test", 3), root)


def test_square_windows_have_the_largest_side():
    windows = square_windows(np.array([[0.0, 0, 10, 10], [0, 0, 2, 100]]))
    sides = windows[:, 2] - windows[:, 0]
    np.testing.assert_allclose(sides, [np.sqrt(300), 110])
    np.testing.assert_allclose(windows[:, 3] - windows[:, 1], sides)
    np.testing.assert_allclose((windows[1, :2] + windows[1, 2:]) / 2, [1, 50])


def test_add_erasers_come_from_the_next_video(dicts):
    expanded = add_erasers(dicts)
    assert expanded[0]["erasers"] is dicts[1]["annotations"]
    assert expanded[2]["erasers"] is dicts[0]["annotations"]


def test_eraser_patch_mapper_cases(dicts):
    mapper, cases = EraserPatchMapper(is_train=True, size=32), []
    for seed in range(60):
        sample = mapper(add_erasers(dicts)[0], seed)
        mask, eraser, target = (sample[key] for key in ("mask", "eraser", "target"))
        assert not (mask & eraser).any()
        assert (mask <= target).all()
        assert target.shape == (32, 32)
        erased = (target & ~mask).sum() / target.sum()
        cases.append(bool(erased > 0))
        if cases[-1]:
            assert torch.equal(mask, target & ~eraser)
            assert erased < 0.9
    assert 0.65 < np.mean(cases) < 0.95
    first = mapper(dicts[0], 3)
    assert all(torch.equal(first[k], mapper(dicts[0], 3)[k]) for k in ("mask", "eraser"))


def test_eraser_patch_mapper_without_objects_raises(dicts):
    with pytest.raises(ValueError, match="expected objects that one can erase a part of"):
        EraserPatchMapper(is_train=True, size=32)({**dicts[0], "annotations": []}, 0)


def test_pcnet_names_are_the_released_ones():
    with torch.device("meta"):
        state = PCNetM().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["inc.conv.conv.0.weight"] == (32, 2, 3, 3)
    assert shapes["down4.mpconv.1.conv.3.weight"] == (256, 256, 3, 3)
    assert shapes["up1.conv.conv.0.weight"] == (128, 512, 3, 3)
    assert shapes["up4.conv.conv.4.weight"] == (32,)
    assert shapes["outc.conv.weight"] == (2, 32, 1, 1)


def test_pcnet_loss_weighs_the_eraser_five_times():
    model = PCNetM(width=1, patch_size=16).train()
    torch.nn.init.zeros_(model.outc.conv.weight)
    torch.nn.init.zeros_(model.outc.conv.bias)
    half = torch.zeros(16, 16, dtype=torch.bool)
    half[:8] = True
    sample = {"mask": ~half, "eraser": half, "target": ~half}
    loss = model([sample, sample])["loss_mask"].item()
    assert loss == pytest.approx(np.log(2) * 3, rel=1e-5)


def test_pcnet_learns_and_completes(dicts):
    model, mapper = (
        PCNetM(width=1, patch_size=32).train(),
        EraserPatchMapper(is_train=True, size=32),
    )
    samples = [mapper(add_erasers(dicts)[0], seed) for seed in range(8)]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(8):
        loss = model(samples)["loss_mask"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    found = model.eval()([EraserPatchMapper(is_train=False)(dicts[1])])[0]["prediction"]
    assert [track.id for track in found.tracks] == [r["id"] for r in dicts[1]["annotations"]]


class Filler(PCNetM):
    """Fills what lies under the eraser between the outer columns of the mask."""

    def predict(self, masks, erasers):
        columns = masks.any(dim=1)
        reach = columns.cumsum(1).bool() & columns.flip(1).cumsum(1).flip(1).bool()
        inside = masks | (erasers & reach[:, None] & masks.any(dim=2)[:, :, None])
        return torch.stack([~inside, inside], dim=1).float() * 20


def test_pcnet_order_who_gains_more_lies_behind():
    bar = rectangle(SIZE, 0, 10, 24, 3)
    block = rectangle(SIZE, 8, 4, 8, 16) & ~bar
    apart = rectangle(SIZE, 0, 28, 3, 3)
    completer = PCNetCompleter(Filler(width=1, patch_size=64).eval())
    order = completer.in_front(np.stack([block, bar, apart]))
    assert np.argwhere(order).tolist() == [[0, 1]]
    assert completer._gain(block, bar, np.array([0.0, 0, 24, 24])) == pytest.approx(24, abs=4)


class Keeper(PCNetM):
    """Adds nothing to a mask."""

    def predict(self, masks, erasers):
        return torch.stack([~masks, masks], dim=1).float() * 20


def test_convex_r_takes_the_order_of_pcnet():
    bar = rectangle(SIZE, 0, 10, 24, 3)
    masks = np.stack([rectangle(SIZE, 8, 4, 8, 16) & ~bar, bar])
    assert build_completer("convex_r").in_front(masks).any()
    model = Keeper(width=1, patch_size=64).eval()
    assert not build_completer("convex_r", model=model).in_front(masks).any()
