"""What the result tables have in common: complete runs, and processes that leave nothing behind."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Call = tuple[Callable[..., None], tuple[Any, ...]]
"""A function at the top of a module, and its arguments."""


def add_numbers(
    parser: argparse.ArgumentParser, defaults: object, meanings: Mapping[str, str]
) -> None:
    """Add options for whole numbers.

    Args:
        parser: gets the options.
        defaults: has an attribute for each.
        meanings: attribute -> help.
    """
    for name, meaning in meanings.items():
        flag, value = "--" + name.replace("_", "-"), getattr(defaults, name)
        parser.add_argument(flag, type=int, default=value, help=f"{meaning} (default {value})")


def run_jobs(
    tool: str, jobs: Sequence[tuple[str, Sequence[Call]]], write: Callable[[], str]
) -> int:
    """Run jobs one after another, each call in a process of its own; one that fails is left.

    Args:
        tool: name for the messages.
        jobs: title and calls of each.
        write: writes the table and returns it; called after each job, its last result printed.

    Returns:
        int: exit status, 1 if a job failed.
    """
    failed = []
    for title, calls in jobs:
        print(f"{tool}: {title}", flush=True)
        try:
            for work, arguments in calls:
                in_process(work, *arguments)
        except RuntimeError as e:
            failed.append(f"{title}: {e}")
        write()
    print(write())
    for text in failed:
        print(f"{tool}: {text}", file=sys.stderr)
    return 1 if failed else 0


def is_complete(path: Path, options: list[Any]) -> bool:
    """Tell whether a run's numbers are there.

    Args:
        path: of the file that is written when a run is complete.
        options: config keys and values of the run.

    Raises:
        ValueError: if they are of other options.
    """
    if not path.is_file():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))["options"]
    if found != json.loads(json.dumps(options)):
        raise ValueError(
            f"is_complete: expected a run with these options in {path}, got one with others; "
            "name another --out or delete the file and the run's folder"
        )
    return True


def in_process(work: Callable[..., None], *args: object) -> None:
    """Run in a process of its own, so that nothing is left behind for the next run.

    Raises:
        RuntimeError: if it fails.
    """
    process = multiprocessing.get_context("spawn").Process(target=work, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} ended with status {process.exitcode}")
