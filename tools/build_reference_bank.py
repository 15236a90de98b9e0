#!/usr/bin/env python
"""Encode the complete objects of a dataset as references of mask transfer.

The datasets are those of MODEL.MASK_TRANSFER.REFERENCES, else DATASETS.TRAIN, or a JSON file of the
image schema (visible masks suffice) with --json and --root. Objects are complete by the rules of
datasets/README.md. --extend adds to a bank that the same weights have encoded; what is in it
already is not encoded again.

Examples::

    python tools/build_reference_bank.py --out output/market_bank.pth \\
        --config-file configs/mask_transfer/quick/mask_transfer_market.yaml \\
        MODEL.WEIGHTS output/mask_transfer/model_final.pth
    python tools/build_reference_bank.py --extend output/market_bank.pth --json more.json \\
        --root more --config-file CONFIG MODEL.WEIGHTS FILE
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import defaultdict
from pathlib import Path

import amodal2.modeling  # noqa: F401 isort: skip; registers the systems, imports Detectron2 silently
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from amodal2.checkpoint import AmodalCheckpointer
from amodal2.config import get_cfg
from amodal2.data.datasets import load_amodal_coco_json
from amodal2.data.mappers.image import to_model_image
from amodal2.data.reference_sets import Reference, crop_reference, find_references
from amodal2.modeling.mask_transfer import MaskTransfer, ReferenceBank
from amodal2.modeling.mask_transfer.inference import encode_references
from amodal2.utils.device import available_device
from amodal2.utils.errors import CheckpointError, VideoError
from amodal2.utils.logging import setup_logging

logger = logging.getLogger("amodal2.build_reference_bank")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="yaml file")
    parser.add_argument("--out", type=Path, metavar="FILE", help="bank to write; not with --extend")
    parser.add_argument("--extend", type=Path, metavar="FILE", help="bank to add to")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="annotations, not a known dataset"
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="of the image paths in --json")
    parser.add_argument(
        "--per-class", type=int, default=320, metavar="N", help="new references at most (320)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice among more (0)")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys to change"
    )
    args = parser.parse_args(argv)
    if (args.out is None) == (args.extend is None):
        parser.error("expected one of --out and --extend")
    if args.json is not None and args.root is None:
        parser.error("expected --root with --json")
    return args


def load_model(cfg: CfgNode) -> MaskTransfer:
    """Build the model with its weights, which must fit exactly."""
    model = build_model(cfg)
    if not isinstance(model, MaskTransfer):
        raise ValueError(
            "build_reference_bank: expected a config of MaskTransfer, got "
            f"{cfg.MODEL.META_ARCHITECTURE}"
        )
    if not cfg.MODEL.WEIGHTS:
        raise ValueError(
            "build_reference_bank: expected trained weights, got an empty MODEL.WEIGHTS"
        )
    checkpointer = AmodalCheckpointer(model)
    checkpointer.load(cfg.MODEL.WEIGHTS, checkpointables=[])
    checkpointer.last_report.require_exact(cfg.MODEL.WEIGHTS)
    return model.eval()


def choose(found: list[Reference], known: set[str], args: argparse.Namespace) -> list[Reference]:
    """Leave out known references and draw at most N of each class."""
    rng = np.random.default_rng(args.seed)
    by_class: dict[int, list[Reference]] = defaultdict(list)
    for reference in found:
        if reference.source not in known:
            by_class[reference.class_id].append(reference)
    chosen = []
    for class_id in sorted(by_class):
        members = by_class[class_id]
        kept = np.sort(rng.permutation(len(members))[: args.per_class])
        logger.info("class %d: %d of %d complete objects", class_id, len(kept), len(members))
        chosen += [members[i] for i in kept]
    return chosen


def encode(model: MaskTransfer, chosen: list[Reference], image_format: str) -> ReferenceBank:
    """Read and encode the references."""
    crops, masks = [], []
    for reference in chosen:
        image, mask = crop_reference(reference)
        crops.append(model.normalize(to_model_image(image[None], image_format)))
        masks.append(torch.from_numpy(np.ascontiguousarray(mask)).to(model.device))
    classes = [reference.class_id for reference in chosen]
    sources = [reference.source for reference in chosen]
    return encode_references(model.network, crops, masks, classes, sources)


def build(args: argparse.Namespace) -> ReferenceBank:
    """Make the bank that the command line describes and write it."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    old = None if args.extend is None else ReferenceBank.load(args.extend)
    model = load_model(cfg)
    if args.json is not None:
        dicts = load_amodal_coco_json(args.json, args.root)
    else:
        names = cfg.MODEL.MASK_TRANSFER.REFERENCES or cfg.DATASETS.TRAIN
        dicts = [item for name in names for item in DatasetCatalog.get(name)]
    known = set() if old is None else set(old.sources)
    found = find_references(dicts, cfg.MODEL.MASK_TRANSFER.MIN_SIDE)
    chosen = choose(found, known, args)
    if old is not None and not chosen:
        logger.info("nothing new for %s", args.extend)
        return old
    bank = encode(model, chosen, cfg.INPUT.FORMAT)
    bank.info = {"weights": str(cfg.MODEL.WEIGHTS), "config": str(args.config_file)}
    if old is not None:
        bank = old.extended(bank)
    bank.save(args.out or args.extend)
    logger.info("%s: %d references", args.out or args.extend, len(bank))
    return bank


def main(argv: list[str] | None = None) -> int:
    """Build or extend a bank; return the exit status."""
    args = parse_arguments(argv)
    setup_logging()
    try:
        build(args)
    except (ValueError, OSError, KeyError, CheckpointError, VideoError) as error:
        logger.error("build_reference_bank: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
