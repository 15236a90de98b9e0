"""Cases of ``tools/benchmark.py diffusion``: sampling against the official call pattern."""

from __future__ import annotations

from typing import Any

import torch

from tools.benchmarks.registry import Case, Peer

SIZE, FRAMES, STEPS = (32, 64), 25, 4
"""Of the model of size "small", with random weights; the steps are fewer than in real use, where
image encoder and VAE take a smaller share."""


def diffusion_cases() -> list[Case]:
    """Return one sample, and three samples of one clip (Top-3)."""
    from tools.benchmarks.diffusion_vas_peer import CALLS

    peer = Peer("official calls", run_official, CALLS)
    return [
        Case(
            op="diffusion_vas",
            name=f"{samples}_sample{'s' * (samples > 1)}",
            make=lambda device, dtype, samples=samples: make_inputs(device, samples),
            ours=run_ours,
            peers=[peer],
            tolerance=1e-3,
            dtypes=(torch.float32,),
            devices=("cpu",),
            floor=1.5,
        )
        for samples in (1, 3)
    ]


def make_inputs(device: torch.device, samples: int) -> dict[str, Any]:
    """Build a pipeline and the conditions of one clip."""
    from amodal2.modeling.diffusion_vas.conditions import depth_condition, mask_condition
    from amodal2.modeling.diffusion_vas.loading import build_pipeline
    from amodal2.modeling.diffusion_vas.settings import SamplerSettings

    torch.manual_seed(0)
    masks = torch.zeros(FRAMES, *SIZE)
    masks[:, 8:24, 16:40] = 1
    depth = torch.rand(FRAMES, *SIZE)
    pipeline = build_pipeline("small").to(device)
    for part in (pipeline.unet, pipeline.vae, pipeline.image_encoder):
        part.eval()
    return {
        "pipeline": pipeline,
        "conditions": [mask_condition(masks), depth_condition(depth)],
        "settings": SamplerSettings(steps=STEPS),
        "seeds": range(23, 23 + samples),
    }


def run_ours(inputs: dict[str, Any]) -> torch.Tensor:
    """Generate all samples together."""
    generators = [torch.Generator().manual_seed(seed) for seed in inputs["seeds"]]
    return inputs["pipeline"](inputs["conditions"], generators, inputs["settings"])


def run_official(inputs: dict[str, Any]) -> torch.Tensor:
    """Generate the samples one after the other, in the official calls."""
    from tools.benchmarks.diffusion_vas_peer import sample_video

    videos = []
    for seed in inputs["seeds"]:
        generator = torch.Generator().manual_seed(seed)
        videos.append(
            sample_video(inputs["pipeline"], inputs["conditions"], generator, inputs["settings"])
        )
    return torch.cat(videos)
