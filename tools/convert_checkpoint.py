#!/usr/bin/env python
"""Turn a checkpoint of the training into a small safetensors file for shipping.

The weights must fit the model of the config exactly. Floating-point tensors are stored in half
precision; the header names the config, and the training's seed and iterations if they are known.

Example::

    python tools/convert_checkpoint.py --config-file configs/a2vis/quick/a2vis_aquarium.yaml \\
        --weights output/a2vis_aquarium/model_final.pth --output a2vis_aquarium.safetensors
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from amodal2 import model_zoo  # isort: skip; imports Detectron2 silently
from detectron2.modeling import build_model

from amodal2.checkpoint import AmodalCheckpointer, export_weights
from amodal2.config import get_cfg
from amodal2.utils.errors import CheckpointError
from amodal2.utils.logging import setup_logging


def note(text: str) -> tuple[str, str]:
    """Split KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, value


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="yaml file of the model")
    parser.add_argument("--weights", required=True, help="checkpoint to convert")
    parser.add_argument("--output", required=True, help="file to write, *.safetensors")
    parser.add_argument("--fp32", action="store_true", help="keep single precision")
    parser.add_argument(
        "--note",
        type=note,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="entry of the header; may be repeated",
    )
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> dict[str, str]:
    """Write the file and return the entries of its header."""
    if Path(args.output).suffix != ".safetensors":
        raise ValueError(f"convert: expected an output *.safetensors, got {args.output}")
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    checkpointer = AmodalCheckpointer(model)
    stored = checkpointer.load(args.weights, checkpointables=[])
    checkpointer.last_report.require_exact(args.weights)
    metadata = {"config": config_name(args.config_file)}
    if "seed" in stored:
        metadata["seed"] = str(stored["seed"])
    if "iteration" in stored:
        metadata["iterations"] = str(stored["iteration"] + 1)
    metadata.update(args.note)
    export_weights(model, args.output, fp16=not args.fp32, metadata=metadata)
    return metadata


def config_name(file: str) -> str:
    """Return the name of a config below ``configs/``, or of a file elsewhere."""
    known = {Path(model_zoo.get_config_file(name)): name for name in model_zoo.list_configs()}
    return next((name for path, name in known.items() if path.samefile(file)), Path(file).name)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    args = parse_args(argv)
    setup_logging(logging.WARNING)
    try:
        metadata = convert(args)
    except (CheckpointError, ValueError, OSError) as error:
        sys.stderr.write(f"convert_checkpoint.py: {error}\n")
        return 1
    size = Path(args.output).stat().st_size / 1e6
    sys.stdout.write(f"{args.output}: {size:.1f} MB, {metadata}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
