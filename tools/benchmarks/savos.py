"""Cases of SaVos: the regions of the objects against whole frames, the official call pattern."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from amodal2.modeling.completion.track_batch import TrackBatch
from amodal2.modeling.savos import PRESETS, SaVos
from amodal2.modeling.savos.network import merge_frames
from amodal2.modeling.savos.patches import build_input
from amodal2.structures.crop_window import clip_window, visible_windows
from tools.benchmarks.registry import Case, Peer
from tools.benchmarks.savos_peer import OfficialSavos, complete_official

SIZES = {"fishbowl": (320, 480), "kitti": (374, 1242)}
WIDTHS = {"small": 4, "full": 32}
FRAMES = 8
RADIUS, STEP = 24, 3
"""Of the discs that move through the frames, in pixels and pixels per frame."""
ENLARGE, MARGIN = 2.0, 8
"""Of the regions, as INPUT.AMODAL.TRACK_ENLARGE and TRACK_MARGIN have it."""

# Regions and frames differ in parity, which would displace pasted patches.
OPTIONS = replace(PRESETS["official"], centred_paste=False, empty_mean=0.0)


@dataclass
class Objects:
    """The same weights twice, and what is learnt from or completed."""

    ours: SaVos
    official: OfficialSavos
    frames: Tensor
    whole: list[dict[str, Any]]
    regions: list[tuple[int, int, int, int]]


def make(
    base: int, size: tuple[int, int], count: int, device: torch.device, dtype: torch.dtype
) -> Objects:
    """Build both with the same random weights and let discs move through noise."""
    torch.manual_seed(0)
    ours = SaVos(base=base, options=OPTIONS).to(device, dtype)
    official = OfficialSavos(base=base, options=OPTIONS).to(device, dtype)
    official.load_state_dict(ours.state_dict())
    height, width = size
    frames = torch.randint(0, 256, (FRAMES, 3, height, width), dtype=torch.uint8)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    whole, regions = [], []
    for number in range(count):
        start = width // 4 + 2 * STEP * number
        middle = torch.arange(FRAMES)[:, None, None] * STEP + start
        distance = (rows - height // 2).square() + (columns - middle).square()
        visible = distance < RADIUS**2
        flow = visible[:, None] * torch.tensor([STEP, 0.0])[:, None, None]
        whole.append(
            {
                "frames": frames,
                "visible": visible,
                "others": torch.zeros_like(visible),
                "forward_flow": flow,
                "backward_flow": -flow,
            }
        )
        windows = visible_windows(visible.numpy())
        regions.append(clip_window(windows, ENLARGE, MARGIN, size))
    return Objects(ours, official, frames, whole, regions)


def cut(objects: Objects) -> list[dict[str, Any]]:
    """Return the objects in their regions, as the mapper cuts them."""
    return [
        {key: value[..., top:bottom, left:right] for key, value in one.items()}
        for one, (top, left, bottom, right) in zip(objects.whole, objects.regions, strict=True)
    ]


def train(objects: Objects, *, official: bool) -> tuple[Tensor, Tensor]:
    """Return the loss of one step, and a gradient."""
    model = (objects.official if official else objects.ours).train()
    samples = objects.whole if official else cut(objects)
    model.zero_grad(set_to_none=True)
    losses, _ = model.losses(TrackBatch.collate(samples, model.device))
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    gradient = model.mask_decoder.fm_deconv_map[0].bias.grad
    assert gradient is not None, "it takes part in the loss"
    return total.detach(), gradient


@torch.inference_mode()
def complete(objects: Objects) -> list[Tensor]:
    """Complete the objects in their regions and put them into frames."""
    model, found = objects.ours.eval(), []
    for sample, (top, left, bottom, right) in zip(cut(objects), objects.regions, strict=True):
        one = TrackBatch.collate([sample], model.device)
        given = build_input(
            one.frames, one.visible, one.forward_flow, one.backward_flow, model.rule
        )
        merged = merge_frames(*model.both_directions(given))[0]
        whole = torch.zeros(len(merged), *objects.frames.shape[2:])
        whole[:, top:bottom, left:right] = merged.cpu()
        found.append(whole)
    return found


@torch.inference_mode()
def complete_whole(objects: Objects) -> list[Tensor]:
    """Complete the objects by the official calls."""
    model = objects.official.eval()
    tracks = [TrackBatch.collate([sample], model.device) for sample in objects.whole]
    return complete_official(model, tracks)


def savos_cases() -> list[Case]:
    """Return the cases: eight frames of one or three objects; milliseconds are for all."""
    runs = {
        "train": (partial(train, official=False), partial(train, official=True)),
        "infer": (complete, complete_whole),
    }
    return [
        Case(
            op="savos",
            name=f"{run}_{width}_{place}_b{count}",
            make=partial(make, base, size, count),
            ours=ours,
            peers=[Peer("whole frames", official)],
            tolerance=1e-3,
            dtypes=(torch.float32,),
            floor=2.0,
        )
        for run, (ours, official) in runs.items()
        for width, base in WIDTHS.items()
        for place, size in SIZES.items()
        for count in (1, 3)
    ]
