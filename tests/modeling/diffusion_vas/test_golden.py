"""The official pipeline's numbers, stage by stage."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import golden_files

pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")

from amodal2.modeling.diffusion_vas.conditions import guidance_contexts
from amodal2.modeling.diffusion_vas.masks import amodal_masks, mask_probability, to_uint8
from amodal2.modeling.diffusion_vas.settings import SCHEDULER, SamplerSettings
from tests.modeling.diffusion_vas.tiny import build_parts, build_pipeline


@pytest.fixture(scope="module", params=golden_files("diffusion_vas_*.pt"))
def run(request: Any) -> dict[str, Any]:
    """Sample once as the golden file says, and keep what passes by."""
    path: Path = request.param
    golden = torch.load(path, weights_only=True)
    pipeline = build_pipeline(golden)
    call = golden["config"]["call"]
    settings = SamplerSettings(
        steps=call["num_inference_steps"],
        guidance=(call["min_guidance_scale"], call["max_guidance_scale"]),
        fps=call["fps"],
        motion_bucket_id=call["motion_bucket_id"],
        noise_aug_strength=call["noise_aug_strength"],
        decode_chunk=call["decode_chunk_size"],
        encode_chunk=3,
    )
    seen: dict[str, list[Any]] = {"in": [], "out": [], "ids": [], "contexts": [], "step": []}

    def watch(_: Any, args: tuple[Any, ...], output: tuple[torch.Tensor]) -> None:
        seen["in"].append(args[0])
        seen["contexts"].append(args[2])
        seen["ids"].append(args[3])
        seen["out"].append(output[0])

    hook = pipeline.unet.register_forward_hook(watch)
    conditions = [golden["inputs"]["cond1"][0], golden["inputs"]["cond2"][0]]
    generator = torch.Generator().manual_seed(call["seed"])
    video = pipeline(
        conditions,
        [generator],
        settings,
        on_step=lambda step, total, latents: seen["step"].append(latents),
    )
    hook.remove()
    return {
        "golden": golden,
        "pipeline": pipeline,
        "video": video,
        "conditions": conditions,
        "settings": settings,
        **seen,
    }


def test_golden_contexts_and_ids_are_the_official_ones(run: dict[str, Any]) -> None:
    outputs = run["golden"]["outputs"]
    torch.testing.assert_close(run["contexts"][0], outputs["image_embeddings"], atol=1e-5, rtol=0)
    assert torch.equal(run["ids"][0], outputs["added_time_ids"])


def test_golden_schedule_is_the_official_one(run: dict[str, Any]) -> None:
    outputs, scheduler = run["golden"]["outputs"], run["pipeline"].scheduler
    scheduler.set_timesteps(25)
    torch.testing.assert_close(scheduler.sigmas, outputs["sigmas_25"], rtol=1e-5, atol=0)
    torch.testing.assert_close(scheduler.timesteps, outputs["timesteps_25"], rtol=1e-5, atol=1e-6)
    for key, value in run["golden"]["config"]["scheduler"].items():
        assert SCHEDULER[key] == value


def test_golden_unet_and_steps_are_the_official_ones(run: dict[str, Any]) -> None:
    outputs = run["golden"]["outputs"]
    for step in range(len(outputs["unet_out"])):
        sample = run["in"][step]
        codes = sample[:, :, 4:]
        torch.testing.assert_close(codes, outputs["cond_latents"], atol=1e-4, rtol=0)
        torch.testing.assert_close(sample[:, :, :4], outputs["unet_in"][step], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(run["out"][step], outputs["unet_out"][step], atol=1e-4, rtol=0)
        expected = outputs["step_latents"][step]
        tolerance = 1e-4 * float(expected.std())
        torch.testing.assert_close(run["step"][step], expected, atol=tolerance, rtol=0)


def test_golden_unet_on_the_official_input_is_equal(run: dict[str, Any]) -> None:
    outputs = run["golden"]["outputs"]
    for step, time in enumerate(outputs["timesteps"]):
        stacked = torch.cat([outputs["unet_in"][step], outputs["cond_latents"]], dim=2)
        with torch.no_grad():
            (found,) = run["pipeline"].unet(
                stacked, time, outputs["image_embeddings"], outputs["added_time_ids"]
            )
        torch.testing.assert_close(found, outputs["unet_out"][step], atol=1e-5, rtol=0)


def test_golden_frames_and_masks_are_the_official_ones(run: dict[str, Any]) -> None:
    outputs = run["golden"]["outputs"]
    frames = outputs["frames"].permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(run["video"], frames, atol=1e-3, rtol=0)
    rounded = outputs["frames_uint8"].permute(0, 1, 4, 2, 3)
    assert int((to_uint8(run["video"]).int() - rounded.int()).abs().max()) <= 1
    near = (rounded.sum(2)[0].int() - 600).abs() <= 3
    probability = mask_probability(run["video"])[0]
    visible = run["conditions"][0][:, 0] > 0
    assert not ((amodal_masks(probability) != outputs["pred_mask"]) & ~near).any()
    assert not ((amodal_masks(probability, visible) != outputs["union_mask"]) & ~near).any()


def test_golden_samples_together_are_those_alone(run: dict[str, Any]) -> None:
    seed = run["golden"]["config"]["call"]["seed"]
    generators = [torch.Generator().manual_seed(number) for number in (seed + 1, seed)]
    both = run["pipeline"](run["conditions"], generators, run["settings"])
    torch.testing.assert_close(both[1:], run["video"], atol=1e-3, rtol=0)
    assert (both[0] - both[1]).abs().max() > 0.1


def test_golden_block_layout_differs(run: dict[str, Any]) -> None:
    outputs = run["golden"]["outputs"]
    embeddings = outputs["image_embeddings"][1::2]
    block = guidance_contexts(embeddings, guided=True, layout="block")
    stacked = torch.cat([outputs["unet_in"][0], outputs["cond_latents"]], dim=2)
    with torch.no_grad():
        (found,) = run["pipeline"].unet(
            stacked, outputs["timesteps"][0], block, outputs["added_time_ids"]
        )
    assert (found - outputs["unet_out"][0]).abs().max() > 0.5


def test_golden_weights_fit_exactly(run: dict[str, Any]) -> None:
    parts = build_parts(run["golden"]["config"])
    for name, state in run["golden"]["state_dict"].items():
        assert set(parts[name].state_dict()) == set(state)
