"""The converters of datasets/prepare_*.py as targets."""

from __future__ import annotations

import json
import logging
import pickle
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np

from amodal2.data.importers.burst import read_burst
from amodal2.data.importers.coco_frames import read_coco_frames
from amodal2.data.importers.cocoa import read_cocoa
from amodal2.data.importers.cocoa_cars import read_cocoa_cars
from amodal2.data.importers.command import convert_boxes, convert_images, convert_videos
from amodal2.data.importers.cvat import read_cvat
from amodal2.data.importers.d2sa import read_d2sa
from amodal2.data.importers.fishbowl import read_fishbowl
from amodal2.data.importers.fishbowl_savos import read_fishbowl_savos
from amodal2.data.importers.kins import CATEGORIES, read_kins
from amodal2.data.importers.kins_video_car import read_kins_video_car
from amodal2.data.importers.labelme import read_labelme
from amodal2.data.importers.sailvos import read_sailvos
from amodal2.data.importers.tao_amodal import read_tao_amodal
from amodal2.data.importers.ytvis import read_ytvis
from tools.fuzzing.source_seeds import SIZE, tao_amodal

Json = Any
MESSAGE = re.compile(r"^[A-Za-z_][\w.]*: .*\bexpected\b", re.DOTALL)


class Reported(logging.Logger):
    """Keeps the errors that a converter reports."""

    def __init__(self) -> None:
        super().__init__("fuzz")
        self.errors: list[BaseException] = []
        self.setLevel(logging.CRITICAL)

    def error(self, message: object, *args: object, **options: Any) -> None:
        """Keep the exception."""
        self.errors += [one for one in args if isinstance(one, BaseException)]


def convert(name: str, folder: Path, content: Json | bytes) -> bool:
    """Convert damaged content; tell whether it was taken.

    What is written must be valid, since the converters read it back; what is refused must be
    refused with a message.
    """
    logger = Reported()
    status = CONVERTERS[name](folder, content, logger)
    for error in logger.errors:
        assert MESSAGE.match(str(error)), f"{type(error).__name__}: {error}"
    assert status in (0, 2), status
    assert bool(status) == bool(logger.errors), "a status without its reason"
    return status == 0


def _write(folder: Path, name: str, content: Json | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def _frames(folder: Path, count: int = 2) -> None:
    """Write black pictures once."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"{index:010d}.png"
        if not path.exists():
            cv2.imwrite(str(path), np.zeros((*SIZE, 3), np.uint8))


def _kins(folder: Path, content: Json | bytes, logger: logging.Logger) -> int:
    def read(collected: Any) -> Any:
        release, images = read_kins(_write(folder, "in.json", content))
        return CATEGORIES[release], images

    return convert_images(read, folder / "out.json", logger)


def _images(read: Callable[..., Any], *, counts: bool) -> Callable[..., int]:
    def run(folder: Path, content: Json | bytes, logger: logging.Logger) -> int:
        file = _write(folder, "in.json", content)
        return convert_images(
            lambda collected: read(file, collected.report) if counts else read(file),
            folder / "out.json",
            logger,
        )

    return run


def _videos(read: Callable[[Path, Json | bytes], Any], **options: Any) -> Callable[..., int]:
    def run(folder: Path, content: Json | bytes, logger: logging.Logger) -> int:
        return convert_videos(lambda: read(folder, content), folder / "out.json", logger, **options)

    return run


def _coco_frames(folder: Path, content: Json | bytes) -> Any:
    return read_coco_frames(_write(folder, "in.json", content), folder, folder)


def _ytvis(folder: Path, content: Json | bytes) -> Any:
    return read_ytvis(_write(folder, "in.json", content), "frames")[2]


def _sailvos(folder: Path, content: Json | bytes) -> Any:
    return read_sailvos(_write(folder, "in.json", content), "frames", Counter())


def _labelme(folder: Path, content: Json) -> Any:
    for path in folder.glob("drive/*.json"):
        path.unlink()
    files = content if isinstance(content, list) and content else [content]
    for index, one in enumerate(files[:4]):
        _write(folder, f"drive/{index}.json", one)
    return read_labelme(folder / "drive", folder)


def _cvat(folder: Path, content: Json) -> Any:
    return read_cvat(_write(folder, "in.xml", cvat_text(content).encode("utf-8", "replace")))


def cvat_text(content: Json) -> str:
    """Return the XML of a document; what has no place in XML is left out."""
    root = ElementTree.Element("annotations")
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    size = ElementTree.SubElement(task, "original_size")
    values = content if isinstance(content, dict) else {}
    for key in ("name", "size", "start_frame", "width", "height"):
        if key in values:
            parent = size if key in ("width", "height") else task
            ElementTree.SubElement(parent, key).text = _plain(values[key])
    tracks = values.get("tracks")
    for track in tracks if isinstance(tracks, list) else []:
        track = track if isinstance(track, dict) else {}
        element = ElementTree.SubElement(root, "track", label=_plain(track.get("label")))
        shapes = track.get("shapes")
        for shape in shapes if isinstance(shapes, list) else []:
            if not isinstance(shape, dict):
                continue
            tag = shape.get("tag") if shape.get("tag") in ("mask", "polygon") else "box"
            node = ElementTree.SubElement(element, tag)
            for key, value in shape.items():
                if key in ("kind", "object"):
                    ElementTree.SubElement(node, "attribute", name=key).text = _plain(value)
                elif key.isidentifier() and key.isascii():
                    node.set(key, _plain(value))
    return ElementTree.tostring(root, encoding="unicode")


def _plain(value: Json) -> str:
    return "".join(char for char in str(value) if char.isprintable())


def _fishbowl(folder: Path, content: Json) -> Any:
    _frames(folder / "test_frames" / "v")
    files = content if isinstance(content, list) and len(content) == 2 else [content, content]
    _write(folder, "test/v/objects.json", files[0])
    _write(folder, "test_objects/v_object0/objects.json", files[1])
    return read_fishbowl(folder, "test", folder)


def _fishbowl_savos(folder: Path, content: Json) -> Any:
    _frames(folder / "test_frames" / "00001")
    file = folder / "test_data.pkl"
    file.write_bytes(pickle.dumps(content))
    return read_fishbowl_savos(file, "test", folder)


def _kins_video_car(folder: Path, content: Json) -> Any:
    _frames(folder / "Kitti" / "raw_video" / "2011_09_26" / "2011_09_26_drive")
    (folder / "car_data").mkdir(exist_ok=True)
    (folder / "car_data" / "test_data.pkl").write_bytes(pickle.dumps(content))
    return read_kins_video_car(folder, "test", folder, Counter())


def _tao(folder: Path, content: Json | bytes, logger: logging.Logger) -> int:
    def read(collected: Any) -> Any:
        return read_tao_amodal(_write(folder, "in.json", content), "frames", collected)[1]

    return convert_boxes(read, folder / "out.json", logger, published={})


def _burst(folder: Path, content: Json | bytes, logger: logging.Logger) -> int:
    def read(collected: Any) -> Any:
        masks = read_burst(_write(folder, "masks.json", content))
        file = _write(folder, "in.json", tao_amodal())
        return read_tao_amodal(file, "frames", collected, masks)[1]

    return convert_boxes(read, folder / "out.json", logger, published={})


CONVERTERS: dict[str, Callable[[Path, Json | bytes, logging.Logger], int]] = {
    "kins_2019": _kins,
    "kins_2020": _kins,
    "d2sa": _images(read_d2sa, counts=False),
    "cocoa": _images(read_cocoa, counts=True),
    "cocoa_cls": _images(read_cocoa_cars, counts=True),
    "coco_frames": _videos(_coco_frames),
    "ytvis": _videos(_ytvis, visible_only=True),
    "sailvos": _videos(_sailvos),
    "tao_amodal": _tao,
    "tao_burst": _burst,
    "tao_sequences": _tao,
    "labelme": _videos(_labelme),
    "cvat": _videos(_cvat),
    "fishbowl": _videos(_fishbowl),
    "fishbowl_savos": _videos(_fishbowl_savos),
    "kins_video_car": _videos(_kins_video_car, visible_only=True),
}
"""Converter -> function of (folder, content, logger) that returns the exit status."""
