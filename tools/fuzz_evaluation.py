#!/usr/bin/env python
"""Feed damaged files to all readers, evaluators and converters.

Each target gets its share of the time. What must hold is in tools/fuzzing/targets.py: a result that
plain loops confirm, or an error that says what was expected; no other exception, no crash, no hang.
A failure is printed once for each place, with the changes that led to it; --out keeps its input
for --replay. An input that ends the process, or takes too long, is in last_input.pkl there. Without
--seed every run draws new inputs.

Example::

    python tools/fuzz_evaluation.py --minutes 10 --seed 1 --out fuzz_out
    python tools/fuzz_evaluation.py --target video_file --minutes 1
"""

from __future__ import annotations

import argparse
import faulthandler
import fnmatch
import importlib
import itertools
import logging
import pickle
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as fix_seed

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tools" / "fuzzing"
SECONDS = 60
"""Longest time of one input."""
MEMORY = 6 << 30
"""Bytes that the process may take beyond what it has after the imports."""
NOTE = 600
"""Characters that are shown of one error, and of one input."""
LAST = "last_input.pkl"
OUTCOMES = ("taken", "refused", "failed")
BATCH = 200
"""Inputs between two looks at the clock."""


def load_module(name: str) -> ModuleType:
    """Import a module of tools/fuzzing; ``tools`` is no package."""
    package = ModuleType("tools")
    package.__path__ = [str(FOLDER.parent)]
    sys.modules.setdefault("tools", package)
    return importlib.import_module(f"tools.fuzzing.{name}")


def run_batch(
    name: str, examples: int, seed: int | None, check: Callable[[Any], None], shrink: bool = False
) -> None:
    """Draw inputs for one target.

    Args:
        name: of the target.
        examples: number of inputs.
        seed: of the draws; None draws other ones each time.
        check: takes an input and raises what is wrong.
        shrink: look for the smallest input that fails.
    """

    def test(drawn: Any) -> None:
        check(drawn)

    run: Callable[[], None] = given(load_module("targets").strategy(name))(test)
    run = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )(run)
    (run if seed is None else fix_seed(seed)(run))()


class Session:
    """Tries inputs and keeps those that fail, the shortest for each place of failure.

    Args:
        folder: for the inputs, with one folder per target.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.totals: dict[str, Counter[str]] = {}
        self.failures: dict[tuple[str, str], tuple[str, Any]] = {}

    def check(self, name: str, drawn: Any) -> None:
        """Try one input."""
        own = self.folder / name
        own.mkdir(exist_ok=True)
        (self.folder / LAST).write_bytes(pickle.dumps((name, drawn.content)))
        counts = self.totals.setdefault(name, Counter())
        faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.__stderr__)
        try:
            taken = load_module("targets").TARGETS[name][1](own, drawn.content)
            counts["taken" if taken else "refused"] += 1
        except Exception as error:
            counts["failed"] += 1
            self._keep(name, drawn, error)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _keep(self, name: str, drawn: Any, error: Exception) -> None:
        place = place_of(error)
        known = self.failures.get((name, place))
        what = f"{type(error).__name__}: {error}"[:NOTE]
        text = f"{name}: {what}\n  at {place}\n  changes: {repr(drawn.changes)[:NOTE]}"
        if known is None:
            print(text, flush=True)
        if known is None or len(text) < len(known[0]):
            self.failures[name, place] = text, drawn.content
            file = self.folder / f"failure_{list(self.failures).index((name, place))}.pkl"
            file.write_bytes(pickle.dumps((name, drawn.content)))

    def run(self, names: list[str], minutes: float, seed: int | None) -> None:
        """Go through the targets in turns until the processor time is over."""
        end = time.process_time() + 60 * minutes
        for batch in itertools.count():
            for name in names:
                if time.process_time() >= end:
                    return
                drawn = None if seed is None else seed + batch
                run_batch(name, BATCH, drawn, partial(self.check, name))
            self.say()

    def say(self) -> None:
        """Print what was tried so far."""
        for name, counts in self.totals.items():
            print(f"{name:24}", *(f"{counts[key]:8} {key}" for key in OUTCOMES))
        print(f"{time.process_time():.0f} s of processor time", flush=True)


def place_of(error: Exception) -> str:
    """Return the innermost lines of this project that an exception went through."""
    frames = [
        f"{Path(one.filename).name}:{one.lineno}"
        for one in traceback.extract_tb(error.__traceback__)
        if str(ROOT) in one.filename
    ]
    return " < ".join(frames[-1:-4:-1])


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="of processor time (10)")
    parser.add_argument("--seed", type=int, help="draw the same inputs again")
    parser.add_argument("--target", default="*", help="name or pattern of the targets (*)")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="try the input in this file and nothing else"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="keep the inputs that failed in this folder"
    )
    args = parser.parse_args(argv)
    targets = load_module("targets")
    for name in ("amodal2", "detectron2"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory(prefix="amodal2_fuzz_") as scratch:
        folder = args.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if args.replay:
            name, content = pickle.loads(args.replay.read_bytes())
            print("taken" if targets.TARGETS[name][1](folder, content) else "refused")
            return 0
        names = fnmatch.filter(targets.TARGETS, args.target)
        if not names:
            parser.error(f"expected one of {sorted(targets.TARGETS)}, got {args.target!r}")
        session = Session(folder)
        print(f"the input that is being tried: {session.folder / LAST}", flush=True)
        session.run(names, args.minutes, args.seed)
        session.say()
        return int(bool(session.failures))


if __name__ == "__main__":
    sys.exit(main())
