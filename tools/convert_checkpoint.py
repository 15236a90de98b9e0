#!/usr/bin/env python
"""Turn a checkpoint, of the training or an official one, into a safetensors file under our names.

Official files of Mask2Former, MinVIS, VITA, GenVIS, AISFormer, BCNet, ORCNN, VRSP and backbones
(torchvision, Swin) are taken as they were published and recognised by content; training and demo
take them in MODEL.WEIGHTS as they are, too. Every rename and everything that is left out is
printed, in full with --report.

With --config-file the weights must fit that model exactly; --partial writes what fits instead.
Floating-point tensors are stored in half precision (--fp32: as they are); the header names what was
recognised, the config, and the training's seed and iterations if they are known.

Examples::

    python tools/convert_checkpoint.py --config-file configs/a2vis/quick/a2vis_aquarium.yaml \\
        --weights output/a2vis_aquarium/model_final.pth --output a2vis_aquarium.safetensors
    python tools/convert_checkpoint.py --weights model_final_3c8ec9.pkl --fp32 \\
        --output mask2former_r50_coco.safetensors --report renames.json
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from amodal2 import model_zoo  # isort: skip; imports Detectron2 silently
from detectron2.modeling import build_model

from amodal2.checkpoint import (
    AmodalCheckpointer,
    LoadReport,
    read_weights,
    translate_official,
    write_weights,
)
from amodal2.config import get_cfg
from amodal2.utils.errors import CheckpointError
from amodal2.utils.files import write_json
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
    parser.add_argument("--weights", required=True, help="checkpoint to convert")
    parser.add_argument("--output", required=True, help="file to write, *.safetensors")
    parser.add_argument("--config-file", help="yaml file of the model that the weights must fit")
    parser.add_argument(
        "--partial", action="store_true", help="with --config-file: write the weights that fit"
    )
    parser.add_argument("--only", default="", metavar="PREFIX", help="write these names alone")
    parser.add_argument("--report", metavar="FILE", help="JSON with all lists in full")
    parser.add_argument("--fp32", action="store_true", help="keep single precision")
    parser.add_argument(
        "--note",
        type=note,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="entry of the header; may be repeated",
    )
    args = parser.parse_args(argv)
    if args.partial and not args.config_file:
        parser.error("--partial needs --config-file")
    return args


def convert(args: argparse.Namespace) -> tuple[LoadReport, dict[str, str]]:
    """Write the file; return what became of the entries, and those of the header."""
    if Path(args.output).suffix != ".safetensors":
        raise ValueError(f"convert: expected an output *.safetensors, got {args.output}")
    state, stored, report = load_into_model(args) if args.config_file else load_alone(args)
    state = {name: value for name, value in state.items() if name.startswith(args.only)}
    if not state:
        raise ValueError(f"convert: expected names that start with {args.only!r}, got none")
    metadata = {}
    if report.recognised:
        metadata["recognised"] = report.recognised
    if args.config_file:
        metadata["config"] = config_name(args.config_file)
    if "seed" in stored:
        metadata["seed"] = str(stored["seed"])
    if "iteration" in stored:
        metadata["iterations"] = str(stored["iteration"] + 1)
    metadata.update(args.note)
    write_weights(state, args.output, fp16=not args.fp32, metadata=metadata)
    if args.report:
        write_json(Path(args.report), report.to_dict())
    return report, metadata


def load_into_model(
    args: argparse.Namespace,
) -> tuple[dict[str, Any], dict[str, Any], LoadReport]:
    """Load the file into the model of the config; return what it filled, and the rest."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    checkpointer = AmodalCheckpointer(model)
    stored = checkpointer.load(args.weights, checkpointables=[])
    report = checkpointer.last_report
    if not args.partial:
        report.require_exact(args.weights)
    absent = set(report.missing)
    state = {name: value for name, value in model.state_dict().items() if name not in absent}
    return state, stored, report


def load_alone(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], LoadReport]:
    """Rename the entries of an official file without building a model."""
    stored = read_weights(args.weights)
    found = translate_official(stored.pop("model"))
    if not found.recognised and not args.only:
        raise CheckpointError(
            "convert: expected weights of A2VIS, Mask2Former, MinVIS, VITA, GenVIS or a published "
            f"backbone, got others in {args.weights} ({', '.join(list(found.state)[:3])}, ...); "
            "give the model's --config-file, or --only PREFIX"
        )
    report = LoadReport(
        recognised=found.recognised, renamed=found.renamed, dropped=found.dropped, compared=False
    )
    return found.state, stored, report


def config_name(file: str) -> str:
    """Return the name of a config below ``configs/``, or of a file elsewhere."""
    known = {Path(model_zoo.get_config_file(name)): name for name in model_zoo.list_configs()}
    return next((name for path, name in known.items() if path.samefile(file)), Path(file).name)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    args = parse_args(argv)
    setup_logging(logging.ERROR)
    try:
        report, metadata = convert(args)
    except (CheckpointError, ValueError, OSError) as error:
        sys.stderr.write(f"convert_checkpoint.py: {error}\n")
        return 1
    size = Path(args.output).stat().st_size / 1e6
    sys.stdout.write(f"{args.weights}:\n  {report}\n{args.output}: {size:.1f} MB, {metadata}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
