"""The peer of Diffusion-VAS makes the official pipeline's numbers."""

from pathlib import Path

import pytest
import torch

from tests.conftest import golden_files, load_script

pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")

from amodal2.modeling.diffusion_vas.settings import SamplerSettings
from tests.modeling.diffusion_vas.tiny import build_pipeline


@pytest.mark.parametrize("path", golden_files("diffusion_vas_*.pt"))
def test_peer_reproduces_the_golden_video(path: Path) -> None:
    peer = load_script("tools/benchmark.py").load_module("diffusion_vas_peer")
    golden = torch.load(path, weights_only=True)
    call, outputs = golden["config"]["call"], golden["outputs"]
    settings = SamplerSettings(steps=call["num_inference_steps"], decode_chunk=2)
    pipeline = build_pipeline(golden)
    own = pipeline.unet.attn_processors
    conditions = [golden["inputs"]["cond1"][0], golden["inputs"]["cond2"][0]]
    generator = torch.Generator().manual_seed(call["seed"])
    video = peer.sample_video(pipeline, conditions, generator, settings)
    expected = outputs["frames"].permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(video, expected, atol=1e-3, rtol=0)
    assert pipeline.unet.attn_processors == own
