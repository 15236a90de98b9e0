"""What the writers of rendered datasets share: splits that are left alone, replaced and rendered.

A split is ``<split>.json`` and the files that it names. Its ``info`` holds the parameters that fix
every byte of it and under "videos" or "images" their number; the JSON is written last.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

SPLITS = {"train": 0, "val": 1}
"""Name of a split -> its number in the seed of everything in it."""

Task = TypeVar("Task")
Result = TypeVar("Result")


def start_split(root: Path, split: str, info: dict[str, Any], *, force: bool) -> bool:
    """Make room for a split.

    Args:
        root (Path): folder of the dataset.
        split (str): name of the split.
        info (dict): its parameters.
        force (bool): remove a split with other parameters or lost files.

    Returns:
        bool: whether it has to be written; False if it is there already.

    Raises:
        FileExistsError: if the split exists with other parameters and ``force`` is off.
    """
    target = root / f"{split}.json"
    if target.exists():
        if _is_complete(target, root, info):
            logger.info("%s is there already with these parameters", target)
            return False
        if not force:
            raise FileExistsError(
                f"write_split: expected no other dataset at {target}, got one with different "
                "parameters or missing files; choose another folder or pass --force"
            )
        _remove_split(target, root)
    left = (
        path for folder in ("", "flow", "depth") for path in (root / folder).glob(f".{split}_*")
    )
    for path in left:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return True


def run_tasks(
    render: Callable[[Task], Result], tasks: list[Task], workers: int
) -> Iterator[Result]:
    """Render the tasks, in their order.

    Args:
        render (Callable): a function of a module, since processes look it up by name.
        tasks (list): its arguments.
        workers (int): processes; 1 renders in this one.

    Yields:
        Result: of each task.
    """
    if workers == 1 or len(tasks) < 2:
        yield from map(render, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(tasks)), initializer=cv2.setNumThreads, initargs=(1,)) as p:
        yield from p.imap(render, tasks)


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode an image (uint8 [H, W, 3], RGB) as PNG.

    Raises:
        RuntimeError: if OpenCV cannot.
    """
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    done, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]), options)
    if not done:
        raise RuntimeError(f"encode_png: expected a PNG of an image {image.shape}, got none")
    return data.tobytes()


def _is_complete(target: Path, root: Path, info: dict[str, Any]) -> bool:
    """Tell whether the split has these parameters and all of its files."""
    try:
        content = json.loads(target.read_text(encoding="utf-8"))
        kind = "videos" if "videos" in info else "images"
        same = content["info"] == info and len(content[kind]) == info[kind]
        return same and all((root / name).is_file() for name in _listed_files(content))
    except (ValueError, KeyError, TypeError):
        return False


def _listed_files(content: dict[str, Any]) -> Iterator[str]:
    """Iterate over all files that a dataset's JSON names."""
    for entry in content["videos"] if "videos" in content else content["images"]:
        yield from entry["file_names"] if "file_names" in entry else [entry["file_name"]]
        for kind in ("flow_files", "depth_files"):
            yield from (name for name in entry.get(kind, ()) if name is not None)


def _remove_split(target: Path, root: Path) -> None:
    """Delete a split's JSON first and then the files that it names."""
    try:
        names = list(_listed_files(json.loads(target.read_text(encoding="utf-8"))))
    except (ValueError, KeyError, TypeError):
        names = []
    target.unlink()
    inside = root.resolve()
    for name in names:
        path = (root / name).resolve()
        if path.is_relative_to(inside):
            path.unlink(missing_ok=True)
