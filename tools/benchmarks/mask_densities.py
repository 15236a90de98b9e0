#!/usr/bin/env python
"""Measure how dense the attention masks of a trained model are on videos, layer by layer.

Each row is one masked attention layer: queries and keys of the mask in a call (P, those of one
frame), the share of allowed keys over all rows that allow any (mean, median, 90 % quantile), the
share of rows that allow none and so attend everywhere, the density that remains to be computed, and
the mean length of a run of allowed keys. ``amodal2/ops/masked_attention.py`` quotes the table.

Example::

    python tools/benchmarks/mask_densities.py --short-edge 160 datasets/aquarium/val_0000*
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import partial

import torch
from torch import Tensor, nn

from amodal2 import model_zoo
from amodal2.layers import MultiheadAttention
from amodal2.video.predictor import PredictorSettings, predict_video
from amodal2.video.reader import find_inputs

COLUMNS = ("Q", "P", "mean", "median", "p90", "empty rows", "computed", "run")


def record(
    rows: dict[str, list[Tensor]],
    name: str,
    _module: nn.Module,
    args: tuple,
    kwargs: dict[str, Tensor | None],
) -> None:
    """Keep [R, 4] per call of a layer: allowed keys, runs, keys of the mask, queries."""
    allow = kwargs.get("allow", args[3] if len(args) > 3 else None)
    if allow is None:
        return
    flat = allow.flatten(0, 1).int()
    starts = (flat.diff(dim=1, prepend=torch.zeros_like(flat[:, :1])) > 0).sum(1)
    sizes = torch.tensor([flat.shape[1], allow.shape[1]]).expand(len(flat), 2)
    rows[name].append(torch.cat((flat.sum(1, keepdim=True), starts[:, None], sizes), dim=1))


def summarise(rows: Tensor) -> list[str]:
    """Turn the rows of a layer into the columns of the table."""
    count, starts, keys, queries = rows.double().unbind(1)
    share = count / keys
    some = share > 0
    kept = share[some]
    median, high = kept.quantile(share.new_tensor([0.5, 0.9])).tolist()
    computed = torch.where(some, share, 1.0).mean()
    percent = [f"{100 * x:.1f}" for x in (kept.mean(), median, high, 1 - some.float().mean())]
    sizes = [f"{x.mean():.0f}" for x in (queries, keys)]
    return [*sizes, *percent, f"{100 * computed:.1f}", f"{count.sum() / starts.sum():.1f}"]


def main() -> None:
    """Run the model over the videos and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="+", help="videos or folders of frames")
    parser.add_argument("--config-file", default="a2vis/quick/a2vis_aquarium.yaml")
    parser.add_argument("--short-edge", type=int, default=160, help="of the network's input")
    args = parser.parse_args()
    model = model_zoo.get(args.config_file, device="cpu").eval()
    rows: dict[str, list[Tensor]] = defaultdict(list)
    for name, module in model.named_modules():
        if isinstance(module, MultiheadAttention):
            module.register_forward_pre_hook(partial(record, rows, name), with_kwargs=True)
    inputs, _ = find_inputs(args.videos)
    for video in inputs:
        with video.open() as frames:
            predict_video(model, frames, PredictorSettings(short_edge=args.short_edge)).close()
    width = max(map(len, rows))
    print(" " * width, *(f"{column:>10}" for column in COLUMNS))
    for name, parts in rows.items():
        print(f"{name:{width}}", *(f"{cell:>10}" for cell in summarise(torch.cat(parts))))


if __name__ == "__main__":
    main()
