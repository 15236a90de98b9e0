"""Paste complete objects over the images of any COCO-style dataset with masks: exact amodal truth.

    python datasets/compose_copy_paste.py instances_val2017.json --root coco/val2017 \\
        --out datasets/coco_pasted --split val --count 1000 --seed 1

writes ``OUT/SPLIT.json`` and the pictures that it names; see datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

import amodal2.utils.detectron2_compat  # noqa: F401 isort: skip; imports Detectron2 silently
import cv2
import numpy as np

from amodal2.data.copy_paste import Composer, Layer, layers_of_image
from amodal2.data.datasets.coco_amodal import load_amodal_coco_json
from amodal2.data.importers.command import convert_images
from amodal2.data.importers.image_import import ImageImport, SourceImage, SourceObject
from amodal2.data.mappers.copy_paste import records_of_layers
from amodal2.data.reference_sets import find_references
from amodal2.data.sized_image import read_sized_image
from amodal2.data.synthetic.split_files import encode_png
from amodal2.structures.image_json import AMODAL_SEGM, VISIBLE_SEGM, read_image_json
from amodal2.utils.files import atomic_write

logger = logging.getLogger("compose_copy_paste")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="JSON with images, categories and annotations")
    parser.add_argument("--root", type=Path, required=True, help="folder of the image paths in it")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--split", default="train", help="name of the JSON and of the folder")
    parser.add_argument("--count", type=int, default=1000, help="pictures (1000)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (0)")
    parser.add_argument("--min-side", type=int, default=32, help="of pasted objects in pixels (32)")
    parser.add_argument("--paste", type=int, nargs=2, default=(1, 4), metavar=("MIN", "MAX"))
    parser.add_argument("--scale", type=float, nargs=2, default=(0.6, 1.4), metavar=("MIN", "MAX"))
    parser.add_argument("--most-hidden", type=float, default=0.9, help="share of an object (0.9)")
    return parser


def to_source(layers: list[Layer], ids: list[int]) -> list[SourceObject]:
    """Turn layers into objects of an image dataset."""
    return [
        SourceObject(
            ids[record["category_id"]],
            record[AMODAL_SEGM],
            record[VISIBLE_SEGM],
            {"id": record["id"], "object": layer.source},
            record.get("order"),
            layer.crowd,
        )
        for record, layer in zip(records_of_layers(layers), layers, strict=True)
    ]


def compose(args: argparse.Namespace, collected: ImageImport) -> tuple[dict, Iterable[SourceImage]]:
    """Return the categories and an iterator that writes pictures as it goes."""
    dicts = load_amodal_coco_json(args.input, args.root)
    categories = {c["id"]: c["name"] for c in read_image_json(args.input).categories}
    donors = find_references(dicts, args.min_side)
    collected.report["complete objects to paste"] += len(donors)
    composer = Composer(
        donors,
        count=tuple(args.paste),
        scale=tuple(args.scale),
        most_hidden=args.most_hidden,
    )

    def images() -> Iterable[SourceImage]:
        for index in range(args.count):
            rng = np.random.default_rng([args.seed, index])
            item = dicts[int(rng.integers(len(dicts)))]
            given = layers_of_image(item)
            picture, layers = composer(rng, read_sized_image(item), given)
            name = f"{args.split}/{index:06d}.png"
            with atomic_write(args.out / name) as temporary:
                temporary.write_bytes(encode_png(picture))
            objects = to_source(layers, sorted(categories))
            hides = [
                (front, back)
                for back, one in enumerate(layers)
                for front in range(max(back + 1, len(given)), len(layers))
                if (layers[front].amodal & one.amodal).any()
            ]
            yield SourceImage(index, name, *picture.shape[:2], objects, hides)

    return categories, images()


def main(arguments: list[str] | None = None) -> int:
    """Compose one split; return the exit status."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cv2.setNumThreads(1)
    return convert_images(
        lambda collected: compose(args, collected), args.out / f"{args.split}.json", logger
    )


if __name__ == "__main__":
    sys.exit(main())
