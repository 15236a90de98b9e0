"""What the result tables have in common: complete runs, and processes that leave nothing behind."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
