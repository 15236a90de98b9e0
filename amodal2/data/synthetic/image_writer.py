"""Datasets of rendered pictures on disk: one PNG per picture and one JSON per split.

Every picture depends on the seed, its split and its index alone, so neither the number of pictures
nor the number of processes changes it. The JSON is written last; a split without one is incomplete.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from amodal2.data.importers.image_import import ImageImport, SourceImage, SourceObject
from amodal2.data.synthetic.market import CATEGORIES, build_market
from amodal2.data.synthetic.render import Frame, render_frame
from amodal2.data.synthetic.scene import Scene
from amodal2.data.synthetic.split_files import SPLITS, encode_png, run_tasks, start_split
from amodal2.data.synthetic.statistics import measure_images
from amodal2.structures.image_json import read_image_json
from amodal2.structures.rle import encode_masks
from amodal2.utils.files import atomic_write

logger = logging.getLogger(__name__)

VERSION = 1
"""Changes whenever the same seed gives other files than before."""


@dataclass(frozen=True)
class PictureKind:
    """A kind of picture that can be written.

    Attributes:
        build (Callable): (rng, height, width) to a scene of one frame, all of whose objects can be
            seen.
        categories (dict[int, str]): category id to name.
    """

    build: Callable[[np.random.Generator, int, int], Scene]
    categories: dict[int, str]


PICTURES: dict[str, PictureKind] = {"market": PictureKind(build_market, CATEGORIES)}
"""Every kind of picture by name."""


@dataclass(frozen=True)
class ImageSpec:
    """What to write; together with a split and an index it fixes every byte of a picture.

    Attributes:
        scene (str): key of ``PICTURES``.
        seed (int): of the whole dataset, not negative.
        width (int): columns in pixels.
        height (int): rows in pixels.
    """

    scene: str = "market"
    seed: int = 0
    width: int = 320
    height: int = 240

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        if self.scene not in PICTURES:
            raise ValueError(f"ImageSpec: expected scene in {sorted(PICTURES)}, got {self.scene!r}")
        if self.seed < 0:
            raise ValueError(f"ImageSpec: expected seed >= 0, got {self.seed}")


def write_image_split(
    spec: ImageSpec,
    out: str | Path,
    split: str,
    count: int,
    *,
    workers: int = 1,
    force: bool = False,
) -> Path:
    """Render the pictures of one split and write its JSON.

    A split that is there already with the same parameters is left as it is.

    Args:
        spec (ImageSpec): what to render.
        out (str | Path): root folder of the dataset.
        split (str): "train" or "val".
        count (int): number of pictures, at least one.
        workers (int): processes; 1 renders in this one.
        force (bool): replace a split with other parameters.

    Returns:
        Path: the JSON.

    Raises:
        FileExistsError: if the split exists with other parameters and ``force`` is off.
        ValueError: if there is no such split, or ``count`` or ``workers`` is out of range.
    """
    if count < 1 or workers < 1 or split not in SPLITS:
        raise ValueError(
            f"write_image_split: expected a split in {sorted(SPLITS)}, count >= 1 and "
            f"workers >= 1, got {split!r}, {count} and {workers}"
        )
    root = Path(out)
    target = root / f"{split}.json"
    info = {"generator": "amodal2 synthetic", "version": VERSION, **asdict(spec)}
    info |= {"split": split, "images": count}
    if not start_split(root, split, info, force=force):
        return target
    collected = ImageImport(PICTURES[spec.scene].categories)
    tasks = [(spec, str(root), split, index) for index in range(count)]
    for done, image in enumerate(run_tasks(_write_picture, tasks, workers), start=1):
        collected.add(image)
        if done % 200 == 0:
            logger.info("%s: %d of %d pictures", split, done, count)
    collected.write(target, info=info)
    logger.info("%s: %s", target, measure_images(read_image_json(target).annotations))
    return target


_Task = tuple[ImageSpec, str, str, int]


def _write_picture(task: _Task) -> SourceImage:
    """Render one picture to disk; return its labels."""
    spec, out, split, index = task
    rng = np.random.default_rng([spec.seed, SPLITS[split], index])
    scene = PICTURES[spec.scene].build(rng, spec.height, spec.width)
    frame = render_frame(scene, 0, spec.height, spec.width)
    name = f"{split}/{index:06d}.png"
    with atomic_write(Path(out) / name) as temporary:
        temporary.write_bytes(encode_png(frame.image))
    return label_picture(frame, scene.category_ids, index, name)


def label_picture(frame: Frame, categories: list[int], number: int, file_name: str) -> SourceImage:
    """Turn the masks of a rendered picture into objects of an image dataset.

    Args:
        frame (Frame): picture and masks of N objects.
        categories (list[int]): category of each object.
        number (int): of the picture, kept as its id in the source.
        file_name (str): its path relative to the dataset's folder.

    Returns:
        SourceImage: N objects with their order in clusters of overlapping amodal masks, and every
        pair of objects of which the first hides a part of the second.
    """
    height, width = frame.image.shape[:2]
    whole = frame.amodal.reshape(len(categories), -1)
    hidden = (frame.amodal & ~frame.visible).reshape(len(categories), -1)
    nearness = {n: rank for rank, n in enumerate(frame.order)}
    hides = (whole.astype(np.float32) @ hidden.astype(np.float32).T) > 0
    overlaps = (whole.astype(np.float32) @ whole.astype(np.float32).T) > 0
    clusters = _clusters(overlaps)
    objects = []
    rles = zip(encode_masks(frame.amodal), encode_masks(frame.visible), strict=True)
    for n, (amodal, visible) in enumerate(rles):
        members = [m for m in frame.order if clusters[m] == clusters[n]]
        order = {"cluster": clusters[n], "rank": members.index(n)}
        objects.append(SourceObject(categories[n], amodal, visible, {"id": n}, order))
    pairs = [
        (front, back)
        for front, back in np.argwhere(hides).tolist()
        if nearness[front] < nearness[back]
    ]
    return SourceImage(number, file_name, height, width, objects, pairs)


def _clusters(overlaps: npt.NDArray[np.bool_]) -> list[int]:
    """Number the groups of objects (from 0) that are linked by overlaps (bool [N, N])."""
    reached = overlaps.copy()
    for _ in range(len(reached)):
        reached |= reached @ reached
    firsts = [int(np.argmax(row)) for row in reached]
    numbers = {first: number for number, first in enumerate(sorted(set(firsts)))}
    return [numbers[first] for first in firsts]
