"""Cases of the run-length coding against pycocotools, both from and to Python objects."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from amodal2.ops import (
    mask_rle,
    mask_rle_areas,
    mask_rle_decode,
    mask_rle_intersections,
    pack_texts,
)
from tools.benchmarks.registry import Case, Peer

SHAPES = {
    "blobs_20x480x864": (20, 480, 864),
    "blobs_100x160x240": (100, 160, 240),
    "noise_4x480x864": (4, 480, 864),
}


def draw_masks(kind: str, shape: tuple[int, int, int]) -> Tensor:
    """Draw unions of three ellipses per mask, or noise of density one half."""
    generator = torch.Generator().manual_seed(0)
    if kind == "noise":
        return torch.rand(shape, generator=generator) < 0.5
    count, height, width = shape
    centre, radius = torch.rand(2, count, 3, 2, 1, 1, generator=generator)
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width) / width
    distance = ((rows - centre[:, :, 0]) / (0.02 + radius[:, :, 0] / 4)) ** 2
    distance = distance + ((columns - centre[:, :, 1]) / (0.02 + radius[:, :, 1] / 4)) ** 2
    return (distance < 1).any(dim=1)


def make_masks(name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return masks row by row in memory, as a network gives them."""
    return draw_masks(name.split("_")[0], SHAPES[name]).to(device, dtype)


def make_rles(name: str, device: torch.device, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Return the masks as pycocotools encodes them."""
    return stock_encode(make_masks(name, device, dtype))


def stock_encode(masks: Tensor) -> list[dict[str, Any]]:
    """Bring the masks into the order in memory that pycocotools wants, and encode them."""
    rles = [
        coco_mask.encode(np.asfortranarray(mask)) for mask in masks.cpu().view(torch.uint8).numpy()
    ]
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in rles]


def stock_decode(rles: list[dict[str, Any]]) -> list[Tensor]:
    """Decode to masks column by column in memory, which is all that pycocotools offers."""
    return [torch.from_numpy(coco_mask.decode(rle)) for rle in rles]


def measure_areas(rles: list[dict[str, Any]]) -> Tensor:
    """Check the masks and count their pixels."""
    pixels = torch.tensor([rle["size"][0] * rle["size"][1] for rle in rles])
    return mask_rle_areas(*pack_texts([rle["counts"] for rle in rles]), pixels)


def stock_areas(rles: list[dict[str, Any]]) -> Tensor:
    """Count the pixels of masks that are taken to be valid."""
    return torch.from_numpy(coco_mask.area(rles).astype(np.int64))


def intersect(rles: list[dict[str, Any]]) -> Tensor:
    """Compare all masks with the first ten, as tracks of one frame."""
    texts = [pack_texts([rle["counts"] for rle in some]) for some in (rles, rles[:10])]
    return mask_rle_intersections(*texts[0], *texts[1], 1, rles[0]["size"])[0]


def stock_intersect(rles: list[dict[str, Any]]) -> Tensor:
    """Recover the intersections from the IoU of all pairs and their areas."""
    iou = coco_mask.iou(rles, rles[:10], [0] * 10)
    areas = coco_mask.area(rles).astype(np.float64)
    total = areas[:, None] + areas[:10]
    return torch.from_numpy(np.rint(iou * total / (1 + iou)).astype(np.int64))


MEASURES = {
    "mask_rle_areas": ("areas", measure_areas, stock_areas),
    "mask_rle_intersections": ("pairs", intersect, stock_intersect),
}


def cases() -> list[Case]:
    """List encoding, decoding and measuring; the bytes are those of the masks."""
    found = [
        Case(
            op=op,
            name=f"{label}_blobs_100x160x240",
            make=partial(make_rles, "blobs_100x160x240"),
            ours=ours,
            peers=[Peer("pycocotools", stock)],
            tolerance=0.0,
            dtypes=(torch.bool,),
            devices=("cpu",),
        )
        for op, (label, ours, stock) in MEASURES.items()
    ]
    for name, (count, height, width) in SHAPES.items():
        shared = {
            "bytes": float(count * height * width),
            "tolerance": 0.0,
            "dtypes": (torch.bool,),
        }
        found.append(
            Case(
                op="mask_rle",
                name=f"encode_{name}",
                make=partial(make_masks, name),
                ours=mask_rle,
                peers=[Peer("pycocotools", stock_encode)],
                **shared,
            )
        )
        found.append(
            Case(
                op="mask_rle_decode",
                name=f"decode_{name}",
                make=partial(make_rles, name),
                ours=mask_rle_decode,
                peers=[Peer("pycocotools", stock_decode)],
                devices=("cpu",),
                **shared,
            )
        )
    return found
