"""Losses, condition dropout, and training with the common loop."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import golden_files

pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")

import amodal2.modeling  # noqa: F401 registers the system
from amodal2.config import get_cfg
from amodal2.engine import AmodalTrainer
from amodal2.modeling.diffusion_vas.edm import Preconditioning, draw_sigma
from amodal2.modeling.diffusion_vas.inference import (
    ClipInputs,
    ClipModel,
    check_conditions,
    make_conditions,
)
from amodal2.modeling.diffusion_vas.loading import load_earlier_stage
from amodal2.modeling.diffusion_vas.lora import add_lora
from amodal2.modeling.diffusion_vas.model import DiffusionVAS
from amodal2.modeling.diffusion_vas.training import (
    ClipStore,
    EncodedClips,
    TrainingSettings,
    condition_dropout,
    diffusion_loss,
    make_target,
)
from amodal2.utils.errors import CheckpointError
from tests.engine import toy
from tests.modeling.diffusion_vas.tiny import build_pipeline

TINY = [
    *("MODEL.META_ARCHITECTURE", "DiffusionVAS"),
    *("MODEL.DIFFUSION_VAS.ARCHITECTURE", "tiny"),
    *("MODEL.DIFFUSION_VAS.IMAGE_SIZE", (8, 8)),
    *("MODEL.DIFFUSION_VAS.STEPS", 1),
    *("MODEL.DIFFUSION_VAS.WINDOW", 3),
    *("INPUT.AMODAL.MAPPER", "ObjectVideoMapper"),
    *("INPUT.AMODAL.CLIP_LEN", 3),
    *("SOLVER.MAX_ITER", 2),
    *("SOLVER.IMS_PER_BATCH", 2),
    *("SOLVER.WARMUP_ITERS", 0),
    *("SOLVER.CHECKPOINT_PERIOD", 0),
]


@pytest.mark.parametrize("path", golden_files("diffusion_vas_*.pt"))
def test_diffusion_loss_is_the_official_one(path: Path) -> None:
    golden = torch.load(path, weights_only=True)
    given, expected = golden["inputs"]["train"], golden["outputs"]["train"]
    pipeline = build_pipeline(golden)
    outputs: list[Any] = []
    pipeline.unet.register_forward_hook(lambda m, args, output: outputs.append(output[0]))
    frames = given["clip_embeds"].shape[0]
    loss = diffusion_loss(
        pipeline,
        given["target"],
        given["eps"],
        given["cond_latents"],
        given["clip_embeds"].expand(frames, -1, -1),
        given["sigma"][None],
        given["added_time_ids"],
    )
    torch.testing.assert_close(outputs[0], expected["unet_out"], atol=1e-5, rtol=0)
    torch.testing.assert_close(loss, expected["loss"], atol=1e-5, rtol=1e-5)
    loss.backward()
    assert pipeline.unet.conv_in2.weight.grad.abs().max() > 0


def test_preconditioning_is_the_scheduler_s() -> None:
    scheduler = build_pipeline().scheduler
    scheduler.set_timesteps(25)
    sigma = scheduler.sigmas[:-1]
    factors = Preconditioning.of(sigma)
    torch.testing.assert_close(factors.noise, scheduler.timesteps)
    video = torch.ones(1)
    scaled = scheduler.scale_model_input(video, scheduler.timesteps[0])
    torch.testing.assert_close(factors.inner[:1] * video, scaled)
    torch.testing.assert_close(factors.skip + factors.out**2, torch.ones(25))


def test_draw_sigma_has_the_asked_moments() -> None:
    logarithm = draw_sigma(200_000, 0.7, 1.6, torch.device("cpu")).log()
    assert abs(logarithm.mean() - 0.7) < 0.02
    assert abs(logarithm.std() - 1.6) < 0.02


def test_condition_dropout_drops_each_and_both_as_often_as_asked() -> None:
    contexts, latents = condition_dropout(200_000, 0.1, torch.device("cpu"))
    assert abs((1 - contexts).mean() - 0.2) < 0.01
    assert abs((1 - latents).mean() - 0.2) < 0.01
    assert abs(((1 - contexts) * (1 - latents)).mean() - 0.1) < 0.01
    with pytest.raises(ValueError, match=r"from 0 to 1/3, got 0\.5"):
        TrainingSettings(dropout=0.5)


def clip(size: int = 8) -> ClipInputs:
    amodal = torch.zeros(3, size, size, dtype=torch.bool)
    amodal[:, 2:6, 2:6] = True
    visible = amodal.clone()
    visible[:, :, 4:] = False
    frames = torch.randint(0, 255, (3, 3, size, size), dtype=torch.uint8)
    return ClipInputs(visible, frames, torch.rand(3, size, size), amodal)


def test_make_conditions_values_are_the_official_ones() -> None:
    given = clip()
    mask, rgb, depth = make_conditions(("mask", "rgb", "depth"), given)
    assert torch.equal(mask[:, 1] > 0, given.visible)
    assert set(mask.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close((rgb + 1) * 127.5, given.frames.float())
    assert (depth.min(), depth.max()) == (-1, 1)
    content, amodal = make_conditions(("content", "amodal"), given)
    assert (content.permute(0, 2, 3, 1)[~given.visible] == 1).all()
    assert torch.equal(amodal[:, 0] > 0, given.amodal)
    target = make_target(("content", "amodal"), given)
    assert torch.equal((target != 1).any(1) | ~given.amodal, torch.ones_like(given.amodal))
    given.depth = None
    (_, neutral) = make_conditions(("mask", "depth"), given)
    preprocessed = build_pipeline().preprocess(neutral)
    torch.testing.assert_close(preprocessed, torch.zeros_like(neutral), atol=1e-5, rtol=0)
    given.frames = None
    with pytest.raises(ValueError, match="expected frames for the condition 'rgb'"):
        make_conditions(("mask", "rgb"), given)


@pytest.mark.parametrize(
    "names", [("rgb",), ("mask", "mask"), ("content",), ("mask", "depth", "depth")]
)
def test_check_conditions_others_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected 'mask' with any"):
        check_conditions(names)


def train(tmp_path: Path, name: str, *opts: Any) -> AmodalTrainer:
    trainer = AmodalTrainer(toy.toy_config(tmp_path / "data", tmp_path / name, *TINY, *opts))
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def state(trainer: AmodalTrainer) -> dict[str, torch.Tensor]:
    return trainer.checkpointer.model.state_dict()


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {key for key in after if key in before and not torch.equal(before[key], after[key])}


def test_train_two_stages_start_from_one_another(tmp_path: Path) -> None:
    keys = ("MODEL.DIFFUSION_VAS.CONDITIONS", ("mask",))
    first = state(train(tmp_path, "first", *keys))
    file = tmp_path / "first" / "model_final.pth"
    keys = ("MODEL.DIFFUSION_VAS.EARLIER_STAGE", str(file), "SOLVER.BASE_LR", 0.0)
    second = state(train(tmp_path, "second", *keys))
    weight = second["unet.conv_in2.weight"]
    assert torch.equal(weight[:, :8], first["unet.conv_in2.weight"])
    assert not weight[:, 8:].any()
    assert changed(first, second) <= {"unet.conv_in2.weight"}
    with pytest.raises(CheckpointError, match="expected a checkpoint of DiffusionVAS"):
        train(tmp_path, "third", "MODEL.DIFFUSION_VAS.EARLIER_STAGE", str(tmp_path / "absent.pth"))


@pytest.mark.parametrize(
    ("opts", "losses", "trained"),
    [
        ((), {"loss_denoise"}, "unet."),
        (("MODEL.DIFFUSION_VAS.VARIANT", "regression"), {"loss_regress"}, "unet."),
        (
            ("MODEL.DIFFUSION_VAS.CONDITIONS", ("content", "amodal"), "INPUT.RANDOM_FLIP", "none"),
            {"loss_denoise"},
            "unet.",
        ),
        (
            ("MODEL.DIFFUSION_VAS.CONDITIONS", ("content", "mask")),
            {"loss_denoise"},
            "unet.",
        ),
        (("MODEL.DIFFUSION_VAS.REPLAYED", 2), {"loss_denoise"}, "unet."),
        (
            ("MODEL.DIFFUSION_VAS.VARIANT", "autoencoder", "MODEL.DIFFUSION_VAS.CROP", "visible"),
            {"loss_reconstruct", "loss_kl"},
            "vae.",
        ),
    ],
    ids=["diffusion", "regression", "content", "one stage", "replay", "autoencoder"],
)
def test_train_two_iterations_change_what_is_trained(
    tmp_path: Path, opts: tuple[Any, ...], losses: set[str], trained: str
) -> None:
    cfg = toy.toy_config(tmp_path / "data", tmp_path / "run", *TINY, *opts)
    trainer = AmodalTrainer(cfg)
    before = {key: value.clone() for key, value in state(trainer).items()}
    trainer.resume_or_load(resume=False)
    trainer.train()
    found = changed(before, state(trainer))
    assert found
    assert all(key.startswith(trained) for key in found)
    if trained == "unet.":
        assert "unet.conv_in2.weight" in found
        assert all("temporal_transformer_block" in key or "conv_in2" in key for key in found)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").open()]
    assert {key for key in lines[-1] if key.startswith("loss_")} == losses


def test_train_lora_additions_are_merged_into_what_continues(tmp_path: Path) -> None:
    keys = ("MODEL.DIFFUSION_VAS.LORA_RANK", 2, "MODEL.DIFFUSION_VAS.TRAINABLE", ("lora_",))
    trained = train(tmp_path, "lora", *keys, "SOLVER.BASE_LR", 0.01)
    unet = trained.checkpointer.model.unet
    added = {k: v for k, v in unet.named_parameters() if k.endswith(("lora_a", "lora_b"))}
    assert added
    assert all(p.requires_grad == (name in added) for name, p in unet.named_parameters())
    assert any(value.any() for name, value in added.items() if name.endswith("lora_b"))
    merged = load_earlier_stage(tmp_path / "lora" / "model_final.pth", "tiny", 2).unet
    assert not any("lora" in name for name in merged.state_dict())
    given = torch.randn(1, 3, 12, 4, 4), 0.3, torch.randn(3, 3, 12), torch.ones(1, 3)
    with torch.no_grad():
        expected, found = unet.eval()(*given)[0], merged.eval()(*given)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_add_lora_changes_nothing_at_first_and_needs_layers() -> None:
    unet = build_pipeline().unet
    given = torch.randn(1, 3, 12, 4, 4), 0.3, torch.randn(3, 1, 12), torch.ones(1, 3)
    with torch.no_grad():
        before = unet(*given)[0]
        add_lora(unet, 3)
        assert torch.equal(unet(*given)[0], before)
    with pytest.raises(ValueError, match="got 2 and 0 layers"):
        add_lora(torch.nn.Conv2d(1, 1, 1), 2)


def test_train_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = state(train(tmp_path, "whole"))
    train(tmp_path, "parts", "SOLVER.MAX_ITER", 1)
    cfg = toy.toy_config(tmp_path / "data", tmp_path / "parts", *TINY)
    trainer = AmodalTrainer(cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 1
    trainer.train()
    assert changed(whole, state(trainer)) == set()


def test_clip_store_adds_earlier_clips_and_forgets_the_oldest() -> None:
    def clips(*values: float) -> EncodedClips:
        column = torch.tensor(values)
        return EncodedClips(*(column.reshape(-1, *[1] * n) for n in (4, 4, 3, 0)))

    store = ClipStore(3)
    assert store.join(clips(0, 1), 4).aug.tolist() == [0, 1]
    second = store.join(clips(2, 3), 4)
    assert second.aug[:2].tolist() == [2, 3]
    assert len(second.aug) == 4
    assert set(second.aug[2:].tolist()) <= {0, 1}
    third = torch.cat([store.join(clips(9), 3).aug[1:] for _ in range(3)])
    assert 0 not in third
    assert torch.equal(second.target.flatten(), second.aug)


def test_model_in_tests_returns_samples_of_every_frame() -> None:
    model = DiffusionVAS(
        model=ClipModel(build_pipeline(num_conditions=1), ("mask",), window=2, overlap=1),
        training=TrainingSettings(),
        seeds=(23, 24, 25),
    )
    model.eval()
    (found,) = model([{"visible": clip().visible}])
    assert found.shape == (3, 3, 8, 8)
    assert 0 <= found.min() <= found.max() <= 1
    assert not torch.equal(found[0], found[1])


def test_config_wrong_values_are_refused() -> None:
    cfg = get_cfg()
    cfg.MODEL.DIFFUSION_VAS.ARCHITECTURE = "tiny"
    cfg.MODEL.DIFFUSION_VAS.TRAINABLE = ("absent",)
    with pytest.raises(ValueError, match="got none"):
        DiffusionVAS(cfg)
    cfg.MODEL.DIFFUSION_VAS.INIT, cfg.MODEL.DIFFUSION_VAS.EARLIER_STAGE = "a", "b"
    with pytest.raises(ValueError, match="got both"):
        DiffusionVAS(cfg)
    cfg.MODEL.DIFFUSION_VAS.VARIANT = "gan"
    with pytest.raises(ValueError, match="expected a variant"):
        DiffusionVAS(cfg)
