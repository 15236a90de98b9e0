#!/usr/bin/env python
"""Learn typical shapes of the classes of an image dataset, for VRSP's shape prior.

Trains an auto-encoder on the amodal masks of all objects, each cut out of its amodal box, and
clusters their codes class by class. MODEL.VRSP.SHAPES takes the file that is written. The two files
of the official code can be turned into such a file instead; nothing in them is run.

Examples:
    python tools/build_shape_codebook.py --dataset kins_2019_amodal_train \\
        --output kins_shapes.safetensors
    python tools/build_shape_codebook.py --official kins_recon_net.pth kins_codebook.npy \\
        --output kins_shapes.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from amodal2.utils import detectron2_compat  # noqa: F401 isort: skip; imports Detectron2 silently
import torch
from detectron2.data import DatasetCatalog

import amodal2.data.datasets  # noqa: F401 registers the datasets
from amodal2.checkpoint import read_code_dictionary, read_weights, write_weights
from amodal2.modeling.roi_heads.shape_codebook import ShapeAutoencoder, shape_tensors
from amodal2.modeling.roi_heads.shape_learning import ShapeSettings, learn_shapes
from amodal2.structures.image_json import AMODAL_SEGM
from amodal2.structures.rle import decode_rle
from amodal2.structures.shared_masks import SharedMasks
from amodal2.utils.errors import AnnotationError, CheckpointError
from amodal2.utils.logging import get_logger, setup_logging

logger = get_logger("amodal2.build_shape_codebook")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    default = ShapeSettings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="registered dataset")
    source.add_argument(
        "--official",
        nargs=2,
        type=Path,
        metavar=("NET", "CODES"),
        help="auto-encoder (*_recon_net.pth) and codes (*_codebook.npy) of the official code",
    )
    parser.add_argument("--output", required=True, type=Path, help="file, *.safetensors")
    parser.add_argument(
        "--size", type=int, default=28, help="side of the masks, that of the head's (default: 28)"
    )
    parser.add_argument("--codes", type=int, default=default.codes, help="most codes per class")
    parser.add_argument("--epochs", type=int, default=default.epochs)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument(
        "--no-augment", action="store_true", help="without rotated and mirrored masks"
    )
    return parser.parse_args(argv)


def read_shapes(name: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the amodal masks [N, size, size] and the classes [N] of all objects of a dataset."""
    masks, classes = [torch.zeros((0, size, size), dtype=torch.bool)], []
    for image in DatasetCatalog.get(name):
        for record in image["annotations"]:
            if record.get(AMODAL_SEGM) is None or record.get("iscrowd", 0):
                continue
            whole = torch.from_numpy(decode_rle(record[AMODAL_SEGM]))[None]
            left, top, width, height = record["amodal_bbox"]
            box = torch.tensor([[left, top, left + width, top + height]])
            masks.append(SharedMasks(whole).crop_and_resize(box, size))
            classes.append(record["category_id"])
    return torch.cat(masks), torch.tensor(classes, dtype=torch.int64)


def read_official(net_file: Path, code_file: Path) -> dict[str, torch.Tensor]:
    """Return the contents of the official files under our names."""
    net, codes = ShapeAutoencoder(), read_code_dictionary(code_file)
    state = read_weights(net_file)["model"]
    try:
        net.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    except RuntimeError as e:
        raise ValueError(
            f"build_shape_codebook: expected the auto-encoder of VRSP with 2 layers of 8 channels, "
            f"got other parameters in {net_file}: {', '.join(sorted(state)[:4])}"
        ) from e
    lengths = {index: values.shape[1] for index, values in codes.items()}
    odd = {index: length for index, length in lengths.items() if length % net.channels}
    if odd:
        raise ValueError(
            f"build_shape_codebook: expected codes of {net.channels} channels, got lengths {odd} "
            f"in {code_file}"
        )
    return shape_tensors(net, codes)


def main(argv: list[str] | None = None) -> int:
    """Learn and write the shapes; the exit status is 0 on success."""
    args = parse_arguments(argv)
    setup_logging()
    settings = ShapeSettings(
        epochs=args.epochs, codes=args.codes, augment=not args.no_augment, seed=args.seed
    )
    try:
        if args.official:
            tensors = read_official(*args.official)
        else:
            tensors = shape_tensors(*learn_shapes(*read_shapes(args.dataset, args.size), settings))
    except (AnnotationError, CheckpointError, KeyError, OSError, ValueError) as e:
        logger.error("%s: %s", type(e).__name__, e)
        return 1
    write_weights(tensors, args.output, fp16=False)
    classes = sum(name.startswith("codes.") for name in tensors)
    logger.info("%s: shapes of %d classes", args.output, classes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
