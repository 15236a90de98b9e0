"""Training of the baselines: gradients, loss names, targets, batches."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.modeling.baselines.cases import CASES, build
from tests.modeling.tiny import make_sample


def swapped(sample: dict) -> dict:
    """Call the amodal masks of a sample visible, and drop its own visible ones."""
    for instances in sample["instances"]:
        instances.gt_visible_masks = instances.gt_amodal_masks
        instances.remove("gt_amodal_masks")
    return sample


@pytest.mark.parametrize("case", CASES)
def test_baseline_every_trainable_parameter_gets_a_gradient(case: str) -> None:
    model = build(case)
    empty = make_sample(1)
    empty["instances"] = [x[:0] for x in empty["instances"]]
    for samples in ([make_sample(0), make_sample(1)], [empty]):
        model.zero_grad()
        losses = model(samples)
        assert all(torch.isfinite(x) for x in losses.values())
        sum(losses.values()).backward()
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        assert trained
        assert [n for n, p in trained if p.grad is None] == []


def test_vita_loss_names_are_the_official_ones() -> None:
    names = set(build("vita")([make_sample(0)]))
    kinds = ("ce", "mask", "dice")
    frame = {f"loss_{k}{s}" for k in kinds for s in ("", "_0", "_1")}
    clip = {f"loss_vita_{k}{s}" for k in kinds for s in ("", "_0")}
    assert names == frame | clip | {"loss_vita_sim"}
    assert set(build("vita_fixed")([make_sample(0)])) == clip | {"loss_vita_sim"}


def test_genvis_loss_names_are_the_official_ones() -> None:
    names = set(build("genvis")([make_sample(0)]))
    parts = {f"loss_genvis_{k}{s}" for k in ("ce", "mask", "dice") for s in ("", "_0")}
    assert names == {f"{p}_clip{i}" for p in parts | {"loss_genvis_sim"} for i in (0, 1)}


@pytest.mark.parametrize("case", ["vita", "genvis_unfrozen", "minvis", "mask2former_vis"])
def test_baseline_steps_on_one_sample_lower_the_loss(case: str) -> None:
    model = build(case)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    totals = []
    for _ in range(6):
        total = sum(model([make_sample(0)]).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]


@pytest.mark.parametrize(
    ("amodal", "visible"), [("mask2former_amodal", "mask2former_vis"), ("genvis_amodal", "genvis")]
)
def test_baseline_amodal_masks_take_the_place_of_visible_ones(amodal: str, visible: str) -> None:
    changes = ("MODEL.VITA.SIM_WEIGHT", 0.0)
    losses = build(amodal, *changes)([make_sample(0)])
    expected = build(visible, *changes)([swapped(make_sample(0))])
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])
    other = build(visible, *changes)([make_sample(0)])
    assert any(not torch.equal(losses[name], other[name]) for name in losses)


def test_baseline_amodal_frame_targets_are_what_the_frame_shows() -> None:
    model = build("minvis_amodal")
    found = []
    forward = model.criterion.forward
    model.criterion.forward = lambda p, t: found.extend(t) or forward(p, t)
    model([make_sample(0)])
    assert [target.ids.tolist() for target in found] == [[0, 1], [0, 1], [0], [0]]
    assert int(found[1].masks[1].sum()) == 24 * 24  # the back box with its hidden part


def test_baseline_amodal_without_amodal_masks_says_so() -> None:
    sample = make_sample(3)
    for instances in sample["instances"]:
        instances.remove("gt_amodal_masks")
    with pytest.raises(ValueError, match=r"without in video 3; .*BASELINES\.MASKS visible"):
        build("vita_amodal")([sample])
    assert build("vita")([sample])


def test_vita_fixed_detector_neither_trains_nor_moves() -> None:
    model = build("vita_fixed")
    sum(model([make_sample(0)]).values()).backward()
    assert not model.backbone.training
    assert not model.sem_seg_head.training
    assert all(p.grad is None for p in model.sem_seg_head.parameters())
    assert model.vita_module.vita_mask_features.weight.grad is not None


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("vita", ("MODEL.BASELINES.MASKS", "both"), "VITA: expected MODEL.BASELINES.MASKS"),
        ("vita", ("MODEL.BASELINES.TRAIN_LEVEL", "clip"), "VITA: expected TRAIN_LEVEL"),
        ("genvis", ("MODEL.GENVIS.MEMORY_CAP", -1), "MEMORY_CAP of at least 0, got -1"),
        ("minvis", ("MODEL.MINVIS.SCORE_DECAY", 0.0), r"SCORE_DECAY in \(0, 1\], got 0.0"),
        ("minvis", ("MODEL.MINVIS.TEST_WINDOW", 0), "TEST_WINDOW of at least 1, got 0"),
        ("mask2former_vis", ("MODEL.MASK2FORMER_VIS.TEST_WINDOW", -1), "at least 0, got -1"),
    ],
)
def test_baseline_wrong_setting_is_named(case: str, changes: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(case, *changes)


@pytest.mark.gpu
@pytest.mark.parametrize("case", ["vita", "genvis_unfrozen", "mask2former_amodal"])
def test_baseline_training_step_on_cuda_equals_cpu(
    monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    model = build(case)
    found = copy.deepcopy(model).cuda()([make_sample(0)])
    for name, loss in model([make_sample(0)]).items():
        torch.testing.assert_close(found[name].cpu(), loss, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["vita", "genvis"])
def test_baseline_two_processes_give_the_gradients_of_one(tmp_path: Path, case: str) -> None:
    root = Path(__file__).resolve().parents[3]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, str(root / "tests" / "modeling" / "distributed_gradients.py")]
    for world in (1, 2):
        shared = [str(world), str(tmp_path / f"meeting{world}"), json.dumps(CASES[case])]
        ranks = [
            subprocess.Popen(
                [*script, str(rank), *shared, str(tmp_path / f"{world}.pt")], env=env, cwd=root
            )
            for rank in range(world)
        ]
        assert [process.wait(timeout=300) for process in ranks] == [0] * world
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        largest = max(1.0, float(gradient.abs().max()))
        assert float((two[name] - gradient).abs().max()) <= 1e-9 * largest, name
