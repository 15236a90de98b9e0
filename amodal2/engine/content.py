"""Arguments of the tools for completers that draw samples and paint, and their progress."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from amodal2.modeling.completion import Completer
from amodal2.modeling.diffusion_vas import DiffusionVASCompleter
from amodal2.modeling.diffusion_vas.loading import HUB
from amodal2.utils.depth import SUFFIXES, DepthFiles

CONTENT_FOLDER = "content"
"""Folder of the RGBA clips in the output of a tool."""


def add_content_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--content``, ``--samples`` and ``--depth``.

    Args:
        parser: of a tool.
    """
    parser.add_argument(
        "--content",
        nargs="?",
        const=HUB["content"],
        metavar="WEIGHTS",
        help="paint the hidden parts too, and write the completed objects as RGBA images in "
        f"content/; folder or hub name of the model that paints (without one: {HUB['content']}), "
        "config of one of ours (FILE.yaml, weights: --option content_weights=FILE), or self for "
        "a model that does both in one stage",
    )
    parser.add_argument(
        "--samples", type=int, metavar="K", help="draw K samples per object (diffusion_vas)"
    )
    parser.add_argument(
        "--depth",
        metavar="SOURCE",
        help="none, depth that was computed before (a folder with one .npy, .npz, .png or .tif "
        "file per frame, or one array of all frames; larger is nearer), or weights of Depth "
        "Anything V2 (diffusion_vas)",
    )


def content_options(args: argparse.Namespace) -> tuple[list[str], DepthFiles | None]:
    """Translate the command line into options of the completer.

    Args:
        args: with what :func:`add_content_arguments` adds.

    Returns:
        tuple: ``name=value`` each, and depth that is read from files.

    Raises:
        ValueError: if the depth is none of the known kinds.
    """
    options, depth = [], None
    if args.content not in (None, "self"):
        options.append(f"content={args.content}")
    if args.samples is not None:
        options.append(f"samples={args.samples}")
    if args.depth is not None and is_depth_files(Path(args.depth)):
        depth = DepthFiles(args.depth)
        options.append("depth=given")
    elif args.depth is not None:
        if args.depth != "none" and not Path(args.depth).exists():
            raise ValueError(
                "--depth: expected none, a file or folder of depth, or weights of Depth Anything "
                f"V2, got {args.depth}, which does not exist"
            )
        options.append(f"depth={args.depth}")
    return options, depth


def is_depth_files(path: Path) -> bool:
    """Tell files of depth from weights of a network.

    Args:
        path: file or folder.

    Returns:
        bool: whether it is an array, or a folder of arrays or images.
    """
    if path.is_dir():
        return any(file.suffix.lower() in SUFFIXES for file in path.iterdir())
    return path.suffix.lower() in SUFFIXES and path.is_file()


def show_steps(completer: Completer, show: Callable[[str], object]) -> None:
    """Report every denoising step, for completers that have any.

    Args:
        completer: any.
        show: takes a text such as "step 3 of 25".
    """
    if isinstance(completer, DiffusionVASCompleter):
        completer.on_step = lambda step, total, _: show(f"step {step} of {total}")
