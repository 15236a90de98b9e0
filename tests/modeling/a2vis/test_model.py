"""The A2VIS meta-architecture: training levels, gradients, batches, inference."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the model
from amodal2.structures.tube_spool import TubeSpool
from tests.modeling.tiny import ArrayFrames, make_sample, tiny_config

_FRAME = ("MODEL.A2VIS.TRAIN_LEVEL", "frame", "INPUT.AMODAL.CLIP_LEN", 1)
_LEVELS = {
    "frame": _FRAME,
    "frame_norm": (*_FRAME, "MODEL.TIMM.FREEZE_BN", False),
    "video": (),
    "unfrozen": ("MODEL.A2VIS.FREEZE_DETECTOR", False),
    "detector_loss": ("MODEL.A2VIS.FREEZE_DETECTOR", False, "MODEL.A2VIS.DETECTOR_LOSS", True),
    "clip_losses": ("MODEL.A2VIS.AUX_CLIP_LOSS", True, "MODEL.A2VIS.CLIP_CLASS_WEIGHT", 1.0),
    "no_samh": ("MODEL.A2VIS.SAMH.ENABLED", False),
    "match_clip": ("MODEL.A2VIS.MATCH", "clip"),
    "null_token": ("MODEL.A2VIS.UPDATE.NULL_TOKEN", True),
    "first_clip": ("MODEL.A2VIS.UPDATE.INIT", "first_clip"),
    "first_clip_alone": (
        *("MODEL.A2VIS.UPDATE.INIT", "first_clip"),
        *("INPUT.AMODAL.CLIP_LEN", 4, "INPUT.AMODAL.NUM_CLIPS", 1),
    ),
    "first_clip_alone_no_samh": (
        *("MODEL.A2VIS.UPDATE.INIT", "first_clip", "MODEL.A2VIS.SAMH.ENABLED", False),
        *("INPUT.AMODAL.CLIP_LEN", 4, "INPUT.AMODAL.NUM_CLIPS", 1),
    ),
    "update_norm_off": ("MODEL.A2VIS.UPDATE.NORM", False),
    "carry_update": ("MODEL.A2VIS.CARRY", "update"),
    "final_amodal_only": ("MODEL.A2VIS.LOSS.DEEP_SUPERVISION", False),
    "no_dice": ("MODEL.A2VIS.LOSS.DICE_WEIGHT", 0.0),
    "ffn": ("MODEL.A2VIS.SAMH.FFN_DIM", 16),
}


def build(*changes):
    return build_model(tiny_config(*changes)).train()


@pytest.mark.parametrize("level", _LEVELS)
def test_model_every_trainable_parameter_gets_a_gradient(level: str) -> None:
    model = build(*_LEVELS[level])
    losses = model([make_sample(0), make_sample(1)])
    assert all(torch.isfinite(x) for x in losses.values())
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def visible_sample(seed: int) -> dict:
    sample = make_sample(seed)
    for instances in sample["instances"]:
        instances.remove("gt_amodal_masks")
    return sample


@pytest.mark.parametrize("level", ["frame", "no_samh"])
def test_model_without_amodal_head_trains_without_amodal_masks(level: str) -> None:
    model = build(*_LEVELS[level])
    losses = model([make_sample(0), visible_sample(1)])
    expected = model([make_sample(0), make_sample(1)])
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


def test_model_amodal_head_without_amodal_masks_raises() -> None:
    with pytest.raises(ValueError, match=r"got objects without in video 1; .*SAMH.ENABLED False"):
        build()([make_sample(0), visible_sample(1)])


def test_model_video_loss_names_are_those_of_the_docs() -> None:
    names = set(build()([make_sample(0)]))
    amodal = {f"loss_amodal_{kind}{s}" for kind in ("mask", "dice") for s in ("", "_0", "_1")}
    assert names == {"loss_ce", "loss_mask", "loss_dice"} | amodal


@pytest.mark.parametrize("level", ["frame", "unfrozen"])
def test_model_steps_on_one_sample_lower_the_loss(level: str) -> None:
    model = build(*_LEVELS[level])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    totals = []
    for _ in range(6):
        total = sum(model([make_sample(0)]).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]


def test_model_fixed_detector_neither_trains_nor_moves() -> None:
    model = build("MODEL.TIMM.FREEZE_BN", False)
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    sum(model([make_sample(0)]).values()).backward()
    assert not model.backbone.training
    assert all(p.grad is None for p in model.sem_seg_head.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.backbone.state_dict().items())


def test_model_detach_every_cuts_the_gradient_between_clips() -> None:
    grads = []
    for every in (0, 1):
        torch.manual_seed(3)
        model = build("MODEL.A2VIS.DETACH_EVERY", every)
        model([make_sample(0)])["loss_ce"].backward()
        grads.append(model.a2vis.global_query_feat.weight.grad)
    assert grads[0].abs().sum() > 0
    assert grads[1] is None


def test_model_points_depend_on_the_sample_alone() -> None:
    model = build()
    alone = model([make_sample(0)])
    torch.rand(7)
    again = model([make_sample(0)])
    assert all(torch.equal(alone[k], again[k]) for k in alone)


def test_model_detector_and_video_losses_draw_different_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build(*_LEVELS["detector_loss"])
    draws = []
    for criterion in (model.criterion, model.video_criterion):
        forward = criterion.forward

        def record(output, targets, forward=forward):
            draws.append(torch.rand(8, generator=copy.deepcopy(targets[0].generator)))
            return forward(output, targets)

        monkeypatch.setattr(criterion, "forward", record)
    model([make_sample(0)])
    assert len(draws) == 2
    assert not torch.equal(*draws)


def test_model_short_video_joins_a_longer_one() -> None:
    losses = build()([make_sample(0, frames=4), make_sample(1, frames=3, size=(60, 80))])
    assert all(torch.isfinite(x) for x in losses.values())


@pytest.mark.parametrize("changes", [(), _FRAME], ids=["video", "frame"])
def test_model_sample_without_objects_trains_the_class_term(changes: tuple) -> None:
    sample = make_sample(0)
    sample["instances"] = [x[torch.zeros(2, dtype=torch.bool)] for x in sample["instances"]]
    losses = build(*changes)([sample])
    assert float(losses["loss_ce"]) > 0
    assert float(losses["loss_mask"]) == 0
    sum(losses.values()).backward()


def test_model_runs_only_the_clip_heads_that_are_read() -> None:
    model = build(*_LEVELS["clip_losses"])
    calls = []
    for name in ("class_embed", "mask_embed", "sim_embed_frame", "sim_embed_clip"):
        head = getattr(model.vita_module, name)
        head.register_forward_hook(lambda *_, name=name: calls.append(name))
    losses = model([make_sample(0)])
    assert calls == ["class_embed", "mask_embed"] * 2
    assert "loss_vita_ce" in losses
    model.eval().forward_clip(make_sample(0)["frames"][:2], model.start())
    assert len(calls) == 4


def test_model_inference_equals_clips_by_hand() -> None:
    model = build().eval()
    sample = make_sample(0, frames=5)
    frames = ArrayFrames(sample["frames"])
    video = {**sample, "frames": frames, "length": 5, "height": 96, "width": 144}
    (output,) = model([video])
    prediction = output["prediction"]
    assert (prediction.video_id, prediction.length) == (0, 5)
    assert len(prediction.tracks) == 5 * 3
    state = model.start()
    with TubeSpool(5, (96, 144)) as spool:
        for start, stop in ((0, 2), (2, 4), (4, 5)):
            clip, state = model.forward_clip(sample["frames"][start:stop], state)
            spool.add(clip)
        expected = spool.finish(model.class_scores(state), 20)
    for track, other in zip(prediction.tracks, expected.tracks, strict=True):
        assert (track.category_id, track.visible) == (other.category_id, other.visible)
        assert track.amodal == other.amodal
        assert track.score == pytest.approx(other.score, rel=1e-6)
        assert track.amodal_score == pytest.approx(other.amodal_score, rel=1e-6)
    assert all(rle["size"] == [96, 144] for rle in prediction.tracks[0].visible if rle)


def test_model_clip_output_covers_the_padded_input() -> None:
    model = build().eval()
    frames = make_sample(0, size=(60, 80))["frames"][:2]
    clip, _ = model.forward_clip(frames, model.start())
    assert clip.image_size == (60, 80)
    assert clip.padded_size == (64, 96)
    assert clip.visible_logits.shape == (5, 2, 16, 24)


@pytest.fixture
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep CUDA convolutions and products from rounding their inputs to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.mark.gpu
@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("level", ["frame", "detector_loss"])
def test_model_training_step_on_cuda_equals_cpu(level: str) -> None:
    model = build(*_LEVELS[level])
    other = copy.deepcopy(model).cuda()
    expected, found = model([make_sample(0)]), other([make_sample(0)])
    for name, loss in expected.items():
        torch.testing.assert_close(found[name].cpu(), loss, atol=1e-3, rtol=1e-3, msg=name)
    sum(expected.values()).backward()
    sum(found.values()).backward()
    gradients = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert gradients[name].grad is None
            continue
        largest = float(parameter.grad.abs().max())
        difference = float((gradients[name].grad.cpu() - parameter.grad).abs().max())
        assert difference <= 1e-3 * max(1.0, largest), name


@pytest.mark.gpu
@pytest.mark.usefixtures("full_precision")
def test_model_forward_clip_on_cuda_equals_cpu() -> None:
    model = build().eval()
    other = copy.deepcopy(model).cuda()
    frames = make_sample(0)["frames"]
    states = [model.start(), other.start()]
    for start in (0, 2):
        clip = frames[start : start + 2]
        expected, states[0] = model.forward_clip(clip, states[0])
        found, states[1] = other.forward_clip(clip, states[1])
        for kind in ("visible_logits", "amodal_logits"):
            torch.testing.assert_close(
                getattr(found, kind).cpu(), getattr(expected, kind), atol=1e-3, rtol=1e-3
            )
    torch.testing.assert_close(
        other.class_scores(states[1]).cpu(), model.class_scores(states[0]), atol=1e-3, rtol=1e-3
    )


def test_model_class_scores_before_any_clip_says_so() -> None:
    model = build().eval()
    with pytest.raises(ValueError, match="after at least one clip"):
        model.class_scores(model.start())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("MODEL.A2VIS.TRAIN_LEVEL", "clip"), "TRAIN_LEVEL"),
        (("MODEL.A2VIS.DETECTOR_LOSS", True), "FREEZE_DETECTOR False"),
        (("MODEL.A2VIS.MATCH", "frame"), "MATCH"),
        (("MODEL.A2VIS.UPDATE.INIT", "ones"), r"UPDATE\.INIT"),
        (("MODEL.TIMM.NAME", "no_such_net"), "no_such_net"),
        (("MODEL.MASK_FORMER.DEC_LAYERS", 1), "DEC_LAYERS to be at least 2, got 1"),
        (("MODEL.A2VIS.SAMH.NORM", "GN", "MODEL.VITA.HIDDEN_DIM", 48), "multiple of 32"),
        (("MODEL.MASK_FORMER.OVERSAMPLE_RATIO", 0.5), "OVERSAMPLE_RATIO"),
        (("MODEL.MASK_FORMER.IMPORTANCE_SAMPLE_RATIO", 1.5), "IMPORTANCE_SAMPLE_RATIO"),
        (("INPUT.FORMAT", "BGR"), r"expected INPUT\.FORMAT RGB, got 'BGR'"),
        (("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res2", "res9"]), "res9"),
    ],
)
def test_model_wrong_setting_is_named(changes: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(*changes)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["frame", "frame_norm", "clip_losses"])
def test_model_two_processes_give_the_gradients_of_one(tmp_path: Path, level: str) -> None:
    root = Path(__file__).resolve().parents[3]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, str(root / "tests" / "modeling" / "distributed_gradients.py")]
    for world in (1, 2):
        meeting = tmp_path / f"meeting{world}"
        ranks = [
            subprocess.Popen(
                [
                    *script,
                    str(rank),
                    str(world),
                    str(meeting),
                    json.dumps(_LEVELS[level]),
                    str(tmp_path / f"{world}.pt"),
                ],
                env=env,
                cwd=root,
            )
            for rank in range(world)
        ]
        assert [process.wait(timeout=300) for process in ranks] == [0] * world
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    assert one.keys() == two.keys()
    assert level != "frame_norm" or any(name.endswith("running_var") for name in one)
    for name, gradient in one.items():
        largest = max(1.0, float(gradient.abs().max()))
        assert float((two[name] - gradient).abs().max()) <= 1e-9 * largest, name
