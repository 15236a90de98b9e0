"""Time training steps of a model on made-up samples, with the peak of the memory."""

from __future__ import annotations

import argparse
from functools import partial
from statistics import median
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import nn

import amodal2.modeling  # noqa: F401 registers the systems
from amodal2.config import get_cfg
from amodal2.engine import build_optimizer, clip_gradients, set_execution
from amodal2.engine.accumulation import add_gradients
from tools.benchmarks.inference import timed_modules
from tools.benchmarks.measure import (
    read_clock,
    reset_peak_resident,
    resident_memory,
)


def made_up_samples(cfg: CfgNode, size: tuple[int, int], objects: int) -> list[dict[str, Any]]:
    """Make a batch of clips in which rectangles move over noise, each half hidden by the next."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    frames = cfg.INPUT.AMODAL.CLIP_LEN * cfg.INPUT.AMODAL.NUM_CLIPS
    samples = []
    for number in range(cfg.SOLVER.IMS_PER_BATCH):
        corners = torch.rand(objects, 2, generator=generator)
        instances = []
        for t in range(frames):
            amodal = torch.zeros(objects, height, width, dtype=torch.bool)
            for mask, (y, x) in zip(amodal, corners.tolist(), strict=True):
                top, left = int(y * height * 0.7), int((x * 0.6 + 0.1 * t / frames) * width)
                mask[top : top + height // 4, left : left + width // 4] = True
            nearer = amodal.flip(0).cumsum(0).flip(0) - amodal.int() > 0
            one = Instances(size)
            one.gt_classes = torch.zeros(objects, dtype=torch.int64)
            one.gt_ids = torch.arange(objects)
            one.gt_amodal_masks, one.gt_visible_masks = amodal, amodal & ~nearer
            instances.append(one)
        pixels = torch.randint(0, 255, (frames, 3, *size), generator=generator, dtype=torch.uint8)
        samples.append(
            {"frames": pixels, "instances": instances, "video_id": number, "sample_seed": number}
        )
    return samples


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time the steps that the command line asks for, print a table and return the numbers."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list([*args.opts, "MODEL.DEVICE", args.device])
    torch.manual_seed(0)
    model = build_model(cfg).train()
    set_execution(cfg, model)
    optimizer = build_optimizer(cfg, model)
    device = next(model.parameters()).device
    clock = partial(read_clock, device, args.cpu_time)
    batch = made_up_samples(cfg, args.size, args.objects)
    step = partial(_step, cfg, model, optimizer, batch, device)
    step()  # the optimiser's moments, compiled code, caches
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        reset_peak_resident()
    seconds = []
    for _ in range(args.rounds):
        start = clock()
        step()
        seconds.append(clock() - start)
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if on_gpu else resident_memory("VmHWM")
    with timed_modules(model, clock) as modules:
        start = clock()
        step()
        timed = clock() - start
    frames = sum(len(sample["frames"]) for sample in batch)
    report = {
        "config": args.config_file,
        "opts": args.opts,
        "size": list(args.size),
        "seconds_per_step": median(seconds),
        "frames_per_step": frames,
        "peak_mb": peak,
        "timed_s": timed,
        "forward_s": dict(modules),
    }
    show(report)
    return report


def _step(
    cfg: CfgNode,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: list[dict[str, Any]],
    device: torch.device,
) -> None:
    optimizer.zero_grad(set_to_none=True)
    add_gradients(
        model,
        batch,
        cfg.SOLVER.ACCUMULATE,
        seed=lambda: torch.manual_seed(0),
        autocast=lambda: torch.autocast(
            device.type, torch.bfloat16, enabled=cfg.SOLVER.AMP.ENABLED and device.type == "cuda"
        ),
    )
    clip_gradients(cfg, (p for g in optimizer.param_groups for p in g["params"]))
    optimizer.step()


def show(report: dict[str, Any]) -> None:
    """Print speed, memory and the share of the forward passes of the modules."""
    height, width = report["size"]
    seconds, frames = report["seconds_per_step"], report["frames_per_step"]
    lines = [
        f"{report['config']} {' '.join(map(str, report['opts']))}: steps of {frames} frames of "
        f"{height}x{width}",
        f"{seconds:.2f} s per step, {frames / seconds:.3f} frames/s, peak memory "
        f"{report['peak_mb']:.0f} MB",
        "seconds per step in forward passes, recomputation included",
    ]
    for name, spent in report["forward_s"].items():
        if spent > 0.005 * report["timed_s"]:
            lines.append(f"{'  ' * (1 + name.count('.'))}{name:<40} {spent:.2f}")
    print("\n".join(lines))
