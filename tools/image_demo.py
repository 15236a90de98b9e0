#!/usr/bin/env python
"""Find the objects of images with their hidden parts and what hides them, and draw them.

Takes image files, folders of images and patterns. Images are turned as their EXIF data ask; grey
ones are given three equal channels, transparency is left out, 16 bits become the upper 8. OUTPUT
gets the pictures, and for --save json predictions.json (what tools/evaluate.py --task image reads)
with images.json (which image has which id). An image without any detection is drawn as it is and
has no entry in predictions.json. Unreadable images are reported and make the exit status 1.

Examples:
    python tools/image_demo.py --config-file CONFIG --input street.jpg --output out
    python tools/image_demo.py --config-file CONFIG --input photos/ "more/**/*.png" --output out \\
        --save overlay,panels,masks,json --score 0.3 --opts MODEL.WEIGHTS model_final.pth
    python tools/image_demo.py --config-file CONFIG --input val2014/ --output out --score 0 \\
        --save json --ids datasets/cocoa/val.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from amodal2 import model_zoo
from amodal2.config import get_cfg
from amodal2.data.datasets import dataset_categories
from amodal2.data.mappers.image import to_model_image
from amodal2.data.transforms import ClipGeometry, shortest_edge_size
from amodal2.evaluation.image_amodal import instances_to_records
from amodal2.modeling.roi_heads import GeneralizedRCNNAmodalWithTTA
from amodal2.structures.frame_object import FrameObject
from amodal2.structures.image_json import AMODAL_SEGM, OCCLUDER_SEGM, VISIBLE_SEGM, read_image_json
from amodal2.structures.rle import decode_rle
from amodal2.utils.device import available_device
from amodal2.utils.errors import AnnotationError, CheckpointError, VideoError
from amodal2.utils.files import atomic_write, write_json
from amodal2.utils.frames import VIDEO_SUFFIXES, read_image
from amodal2.utils.logging import get_logger, setup_logging
from amodal2.video.reader import LiveInput, find_inputs
from amodal2.visualization.object_panels import draw_object_panels, draw_objects

SAVEABLE = frozenset({"overlay", "panels", "masks", "json"})
_KEYS = {"visible": VISIBLE_SEGM, "amodal": AMODAL_SEGM, "occluder": OCCLUDER_SEGM}

logger = get_logger("amodal2.image_demo")

Record = dict[str, Any]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="yaml file")
    parser.add_argument(
        "--input", required=True, nargs="+", metavar="PATH", help="images, folders or patterns"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--save",
        type=parse_save,
        default="panels,json",
        metavar="LIST",
        help=f"of {','.join(sorted(SAVEABLE))}, separated by commas (default: panels,json)",
    )
    parser.add_argument(
        "--score", type=float, default=0.5, help="lowest score of an object (default: 0.5)"
    )
    parser.add_argument(
        "--ids",
        type=Path,
        metavar="FILE",
        help="annotation file whose image ids predictions.json gets; default: numbers from 1",
    )
    parser.add_argument(
        "--augment",
        action="store_true",
        help="average over the sizes of TEST.AUG and mirror images (slow)",
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config keys"
    )
    return parser.parse_args(argv)


def parse_save(text: str) -> frozenset[str]:
    """Read the list of what to save."""
    names = frozenset(text.split(","))
    if not names <= SAVEABLE:
        unknown = ", ".join(sorted(names - SAVEABLE))
        raise argparse.ArgumentTypeError(f"expected some of {sorted(SAVEABLE)}, got {unknown!r}")
    return names


def find_images(patterns: list[str]) -> tuple[list[Path], list[str]]:
    """Return the images that files, folders and patterns name, and a message per problem."""
    inputs, problems = find_inputs(patterns)
    images: list[Path] = []
    for found in inputs:
        if isinstance(found, LiveInput) or found.path.suffix.lower() in VIDEO_SUFFIXES:
            problems.append(f"{found.name}: expected images, got a video; use tools/video_demo.py")
        else:
            images += found.images or [found.path]
    return images, problems


@dataclass
class Detector:
    """Finds the objects of single images.

    Attributes:
        model (nn.Module): a detector in evaluation mode, such as ``GeneralizedRCNNAmodal``.
        size (tuple[int, int]): shorter edge of its input and limit of the longer one, in pixels.
        image_format (str): "RGB" or "BGR".
        score (float): lowest score of an object.
        category_ids (list[int]): of the contiguous classes.
    """

    model: torch.nn.Module
    size: tuple[int, int]
    image_format: str
    score: float
    category_ids: list[int]

    @torch.no_grad()
    def __call__(self, image: np.ndarray, image_id: int) -> list[Record]:
        """Return prediction records of one RGB image, best first, with category ids."""
        height, width = image.shape[:2]
        geometry = ClipGeometry.resize_to(
            height, width, shortest_edge_size(height, width, *self.size)
        )
        tensor = to_model_image(geometry.apply_frames(image[None]), self.image_format)
        sample = {"image": tensor, "height": height, "width": width, "image_id": image_id}
        found = self.model([sample])[0]["instances"]
        records = instances_to_records(found[found.scores >= self.score], image_id)
        for record in records:
            record["category_id"] = self.category_ids[record["category_id"]]
        return sorted(records, key=lambda record: -record["score"])


def to_objects(records: list[Record]) -> list[FrameObject]:
    """Number the objects of an image from 1, for drawing."""
    return [
        FrameObject(
            id=number,
            category_id=record["category_id"],
            score=record["score"],
            visible=record.get(VISIBLE_SEGM),
            amodal=record.get(AMODAL_SEGM),
        )
        for number, record in enumerate(records, 1)
    ]


def save_pictures(
    image: np.ndarray,
    records: list[Record],
    names: Mapping[int, str],
    args: argparse.Namespace,
    stem: str,
) -> None:
    """Write what can be looked at: OUTPUT/{overlay,panels}/STEM.png, OUTPUT/masks/STEM/*.png."""
    objects = to_objects(records)
    if "overlay" in args.save:
        write_png(args.output / "overlay" / f"{stem}.png", draw_objects(image, objects, names))
    if "panels" in args.save:
        known = [record[OCCLUDER_SEGM] for record in records if OCCLUDER_SEGM in record]
        panels = draw_object_panels(image, objects, names, known or None)
        write_png(args.output / "panels" / f"{stem}.png", panels)
    if "masks" in args.save:
        for number, record in enumerate(records, 1):
            for kind, key in _KEYS.items():
                if record.get(key) is not None:
                    mask = decode_rle(record[key]).astype(np.uint8) * 255
                    write_png(args.output / "masks" / stem / f"{number:03d}_{kind}.png", mask)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture or a grey mask, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)
    if not done:
        raise VideoError(f"write_png: expected to encode {path}, got a failure")
    with atomic_write(path) as temporary:
        temporary.write_bytes(data.tobytes())


def assign_ids(images: list[Path], file: Path | None) -> dict[Path, int]:
    """Number the images from 1, or look their ids up by the ends of their paths.

    Images that the annotation file does not name get no id.
    """
    if file is None:
        return {path: number for number, path in enumerate(images, 1)}
    known = {entry["file_name"]: entry["id"] for entry in read_image_json(file).images}
    ids = {}
    for path in images:
        parts = path.resolve().parts
        ends = ("/".join(parts[-count:]) for count in range(len(parts), 0, -1))
        match = next((known[end] for end in ends if end in known), None)
        if match is not None:
            ids[path] = match
    return ids


def unique_stems(images: list[Path]) -> list[str]:
    """Name each picture by its file, and by a number where names collide."""
    stems: list[str] = []
    for path in images:
        stem, number = path.stem, 2
        while stem in stems:
            stem, number = f"{path.stem}_{number}", number + 1
        stems.append(stem)
    return stems


def make_detector(args: argparse.Namespace) -> tuple[Detector, dict[int, str]]:
    """Build the model of the config file; return it with the names of its categories."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    architecture = cfg.MODEL.META_ARCHITECTURE
    if cfg.INPUT.AMODAL.MAPPER == "ClipMapper" and not architecture.startswith("GeneralizedRCNN"):
        raise ValueError(
            "image_demo: expected a config of a detector of images, such as "
            f"GeneralizedRCNNAmodal, got {architecture}, which works on videos"
        )
    # The threshold of the command line decides, also where it is below the config's.
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = min(cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, args.score)
    if not cfg.MODEL.WEIGHTS:
        logger.warning("MODEL.WEIGHTS is empty: the weights are random, the objects mean nothing")
    dataset = cfg.DATASETS.TEST[0] if cfg.DATASETS.TEST else ""
    names = dataset_categories(dataset, cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    size = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    model = model_zoo.load_model(cfg)
    if args.augment:
        model = GeneralizedRCNNAmodalWithTTA(cfg, model)
    return Detector(model, size, cfg.INPUT.FORMAT, args.score, list(names)), names


def main(argv: list[str] | None = None) -> int:
    """Work on all images; the exit status is 0 only if every one succeeded."""
    args = parse_arguments(argv)
    package_logger = setup_logging()
    images, problems = find_images(args.input)
    if not images:
        for problem in problems:
            logger.error("%s", problem)
        return 1
    try:
        ids = assign_ids(images, args.ids)
        detector, names = make_detector(args)
        args.output.mkdir(parents=True, exist_ok=True)
    except (AnnotationError, CheckpointError, OSError, KeyError, ValueError, AssertionError) as e:
        logger.error("%s: %s", type(e).__name__, e)
        return 1
    predictions: list[Record] = []
    entries: list[Record] = []
    with logging_redirect_tqdm([package_logger]):
        for path, stem in zip(tqdm(images, unit=" images"), unique_stems(images), strict=True):
            if path not in ids:
                problems.append(f"{path}: expected an image of {args.ids}, got another")
                continue
            try:
                image = read_image(path)
                records = detector(image, ids[path])
                save_pictures(image, records, names, args, stem)
            except (VideoError, OSError, ValueError) as e:
                problems.append(f"{path}: {e}")
                continue
            if not records:
                logger.warning("%s: nothing found with a score of at least %g", path, args.score)
            predictions += records
            size = {"height": image.shape[0], "width": image.shape[1]}
            entries.append({"id": ids[path], "file_name": str(path), **size})
    if "json" in args.save:
        categories = [{"id": key, "name": name} for key, name in names.items()]
        write_json(args.output / "predictions.json", predictions)
        write_json(args.output / "images.json", {"images": entries, "categories": categories})
    for problem in problems:
        logger.error("%s", problem)
    logger.info(
        "%d objects in %d images, results in %s", len(predictions), len(entries), args.output
    )
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the pictures that were complete stay")
