#!/usr/bin/env python
"""Measure mask transfer: votes, scores and scales on pairs, and transferred masks (Tables 3 to 6).

Pairs are drawn from the test datasets (--dataset) as in training, one query per image and round,
against the references of MODEL.MASK_TRANSFER.REFERENCES, else of DATASETS.TRAIN. With a bank
(MODEL.MASK_TRANSFER.BANK) the amodal masks of all objects are measured too, from their true visible
masks, beside those of predicting the visible mask itself. Several weights give one row each; the
least delta of them is mindelta. --switches measures the masks again with other keys of
MODEL.MASK_TRANSFER that concern inference only.

Example::

    python tools/measure_mask_transfer.py --dataset market_v1_amodal_val --weights MODEL.pth \\
        --config-file configs/mask_transfer/quick/mask_transfer_market.yaml --json metrics.json \\
        --switches "TOPK 3" --switches "REFINE affine UNION_VISIBLE True" \\
        MODEL.MASK_TRANSFER.BANK bank.pth
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import amodal2.modeling  # isort: skip; registers the systems, imports Detectron2 silently
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

import amodal2.data.datasets  # noqa: F401 registers the data sets
from amodal2.checkpoint import AmodalCheckpointer
from amodal2.config import get_cfg
from amodal2.data.mappers.transfer_pairs import TransferPairMapper
from amodal2.evaluation.image_amodal import instances_to_records
from amodal2.evaluation.mask_transfer import (
    MaskMetrics,
    PairMetrics,
    measure_masks,
    measure_pairs,
)
from amodal2.modeling.mask_transfer import TransferOptions
from amodal2.structures import fields
from amodal2.structures.image_json import read_image_json
from amodal2.utils.device import available_device
from amodal2.utils.errors import CheckpointError, VideoError
from amodal2.utils.files import write_json


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="yaml file")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="registered, of images")
    parser.add_argument("--weights", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=1, help="queries per image (1)")
    parser.add_argument("--images", type=int, default=None, metavar="N", help="the first N (all)")
    parser.add_argument(
        "--switches",
        action="append",
        type=str.split,
        default=[],
        metavar="KEYS",
        help='keys and values, e.g. "TOPK 3 REFINE affine"; may be repeated',
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys to change"
    )
    return parser.parse_args(argv)


def run_pairs(model: Any, cfg: CfgNode, dicts: list[dict[str, Any]], rounds: int) -> PairMetrics:
    """Draw pairs and measure all branches."""
    mapper = TransferPairMapper(cfg, is_train=True)
    errors, logits, positive, scales = [], [], [], []
    subpixel = cfg.MODEL.MASK_TRANSFER.SUBPIXEL
    for index, item in enumerate(dicts):
        for turn in range(rounds):
            with torch.no_grad():
                pairs, log_scale = model.measure_pairs([mapper(item, index * rounds + turn)])
            scales.append(log_scale)
            if pairs is not None:
                errors.append(pairs.centre_errors(subpixel=subpixel))
                logits.append(pairs.logits)
                positive.append(pairs.positive)
    if not logits:
        raise ValueError(
            "measure_mask_transfer: expected objects with references of their class, got none"
        )
    joined = (torch.cat(values).cpu().numpy() for values in (errors, logits, positive, scales))
    return measure_pairs(*joined)


def run_masks(
    model: Any,
    cfg: CfgNode,
    dicts: list[dict[str, Any]],
    name: str,
    switches: Sequence[Sequence[str]] = (),
) -> dict[str, MaskMetrics]:
    """Complete all objects; measure the masks, and the visible masks in their place."""
    options = {"transfer": model.options}
    options |= {" ".join(keys): switched(cfg, keys) for keys in switches}
    mapper = TransferPairMapper(cfg, is_train=False)
    metadata = MetadataCatalog.get(name)
    ids = {v: k for k, v in metadata.thing_dataset_id_to_contiguous_id.items()}
    dataset = read_image_json(metadata.json_file)
    chosen = {item["image_id"] for item in dicts}
    dataset.images = [image for image in dataset.images if image["id"] in chosen]
    dataset.annotations = [r for r in dataset.annotations if r["image_id"] in chosen]
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in (*options, "visible")}
    for item in dicts:
        sample = mapper(item)
        masks = {}
        for kind, chosen in options.items():
            model.set_options(chosen)
            masks[kind] = model([sample])[0]["instances"].to("cpu")
        plain = masks["visible"] = sample["proposals"]
        plain.set(fields.PRED_AMODAL_MASKS, plain.get(fields.PRED_VISIBLE_MASKS))
        for kind, instances in masks.items():
            for record in instances_to_records(instances, item["image_id"]):
                found[kind].append(record | {"category_id": ids[record["category_id"]]})
    return {kind: measure_masks(dataset, records) for kind, records in found.items()}


def switched(cfg: CfgNode, keys: Sequence[str]) -> TransferOptions:
    """Return the options of inference with some keys changed."""
    cfg = cfg.clone()
    cfg.merge_from_list(
        [f"MODEL.MASK_TRANSFER.{k}" if not i % 2 else k for i, k in enumerate(keys)]
    )
    return TransferOptions.from_config(cfg)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every file of weights."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    dicts = [d for d in DatasetCatalog.get(args.dataset) if d["annotations"]][: args.images]
    model = build_model(cfg).eval()
    rows: dict[str, Any] = {}
    for weights in args.weights:
        checkpointer = AmodalCheckpointer(model)
        checkpointer.load(weights, checkpointables=[])
        checkpointer.last_report.require_exact(weights)
        row: dict[str, Any] = {"pairs": run_pairs(model.eval(), cfg, dicts, args.rounds).to_dict()}
        if cfg.MODEL.MASK_TRANSFER.BANK:
            masks = run_masks(model, cfg, dicts, args.dataset, args.switches)
            row |= {kind: metrics.to_dict() for kind, metrics in masks.items()}
        rows[weights] = row
    deltas = [row["pairs"]["delta"] for row in rows.values()]
    return {"weights": rows, "mindelta": float(np.min(deltas))}


def main(argv: list[str] | None = None) -> int:
    """Print the numbers; return the exit status."""
    args = parse_arguments(argv)
    try:
        report = measure(args)
    except (
        AssertionError,  # of Detectron2, for keys that are unknown or lack a value
        ValueError,
        OSError,
        KeyError,
        CheckpointError,
        VideoError,
    ) as error:
        print(f"measure_mask_transfer: {error}", file=sys.stderr)
        return 2
    for weights, row in report["weights"].items():
        print(weights)
        for kind, numbers in row.items():
            print(f"  {kind}: " + "  ".join(f"{k} {v:.4g}" for k, v in numbers.items()))
    print(f"mindelta {report['mindelta']:.4f}")
    if args.json:
        write_json(args.json, report, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
