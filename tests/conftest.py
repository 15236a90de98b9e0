"""Shared by all tests: golden files, skips, and random states that no test leaks."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


def load_script(path: str) -> ModuleType:
    """Import a script that belongs to no package, e.g. ``load_script("tools/evaluate.py")``."""
    name = "script_" + Path(path).stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, REPOSITORY / path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def golden_folder() -> Path:
    """Return the folder of golden files: ``$AMODAL2_GOLDEN``, else ``../shared/golden``."""
    folder = os.environ.get("AMODAL2_GOLDEN")
    return Path(folder) if folder else REPOSITORY.parent / "shared" / "golden"


def golden_files(pattern: str) -> list:
    """List golden files or folders as parameters for ``pytest.mark.parametrize``.

    Each parameter carries the marker ``golden`` and its file's stem, which begins with the family's
    name, as its id. Without any such file there is one parameter that is skipped.

    Args:
        pattern: glob inside the folder, beginning with the family, e.g. ``"vita_*.pt"``.

    Returns:
        ``pytest.param`` objects, each with one ``Path``, sorted by name.
    """
    folder = golden_folder()
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if found:
        return [pytest.param(path, id=path.stem, marks=pytest.mark.golden) for path in found]
    skip = pytest.mark.skip(reason=f"no golden file {pattern} in {folder}; set AMODAL2_GOLDEN")
    family = pattern.split("_")[0]
    return [pytest.param(folder, id=f"{family}-absent", marks=[pytest.mark.golden, skip])]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _restore_random_states() -> Iterator[None]:
    """Give every test the same random states and put back what it found."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
