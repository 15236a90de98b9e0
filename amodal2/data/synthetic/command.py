"""What the command lines that render datasets share: options, and how a run ends."""

from __future__ import annotations

import argparse
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2

from amodal2.utils.errors import MissingDependencyError


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as 480x320, width first.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 480x320, got {text!r}")
    return int(match[1]), int(match[2])


def splits_parser(description: str | None, counts: dict[str, int]) -> argparse.ArgumentParser:
    """Start a command line with ``--out``, ``--seed`` and a number for every split.

    Args:
        description (str | None): docstring of the script.
        counts (dict[str, int]): name of a split -> how much of it by default.

    Returns:
        argparse.ArgumentParser: to be extended.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="root folder of the dataset")
    for split, count in counts.items():
        parser.add_argument(f"--{split}", type=int, default=count, metavar="N", help=f"({count})")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (0)")
    return parser


def add_render_options(parser: argparse.ArgumentParser, size: tuple[int, int]) -> None:
    """Add ``--size`` (default ``size``: width, height), ``--workers`` and ``--force``."""
    text = f"WxH ({size[0]}x{size[1]})"
    parser.add_argument("--size", type=parse_size, default=size, help=text)
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (one per core)"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a dataset made with other parameters"
    )


def add_video_options(parser: argparse.ArgumentParser, frames: int, form: str) -> None:
    """Add ``--frames`` and ``--format`` with these defaults, and ``--flow``."""
    parser.add_argument(
        "--frames", type=int, default=frames, help=f"per video, at most 128 ({frames})"
    )
    parser.add_argument(
        "--format",
        choices=("mp4", "png"),
        default=form,
        help=f"one file or a folder of frames per video ({form})",
    )
    parser.add_argument("--flow", action="store_true", help="also write optical flow")


def wanted_splits(args: argparse.Namespace, names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Iterate over the splits of which something is wanted, with how much.

    Raises:
        ValueError: if a number is negative.
    """
    for name in names:
        count = getattr(args, name)
        if count < 0:
            raise ValueError(f"wanted_splits: expected --{name} >= 0, got {count}")
        if count:
            yield name, count


def run_command(logger: logging.Logger, write: Callable[[], None]) -> int:
    """Render with one thread per process; return the exit status, 2 for what cannot be done."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cv2.setNumThreads(1)
    start = time.monotonic()
    try:
        write()
    except (ValueError, OSError, MissingDependencyError) as error:
        logger.error("%s: %s", logger.name, error)
        return 2
    logger.info("done in %.0f s", time.monotonic() - start)
    return 0
