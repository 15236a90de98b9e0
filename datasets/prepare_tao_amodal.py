"""TAO-Amodal: amodal boxes, with modal masks of BURST, to the JSON of video datasets.

    python datasets/prepare_tao_amodal.py amodal_annotations/validation_lvis_v1.json \\
        --masks BURST_annotations/val/val.json --out datasets/tao_amodal/val.json
    python datasets/prepare_tao_amodal.py diffusion_vas_tao_amodal_val.json \\
        --out datasets/tao_amodal/sequences.json

The layout is recognised by the keys of the file; the tree is in datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from amodal2.data.importers.box_import import BoxImport, BoxVideo
from amodal2.data.importers.burst import read_burst
from amodal2.data.importers.command import convert_boxes
from amodal2.data.importers.tao_amodal import read_tao_amodal

VIDEOS = {"train": 500, "validation": 988, "test": 1_419}
"""Published videos by split; Diffusion-VAS counts 993 of the validation set."""
SEQUENCES = {"sequences (one object in one video)": 1_392, "videos of the source": 993}
"""Published counts of Diffusion-VAS."""

logger = logging.getLogger("prepare_tao_amodal")


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="published JSON file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    parser.add_argument("--masks", type=Path, metavar="FILE", help="modal masks of BURST")
    parser.add_argument(
        "--frames",
        default="frames",
        metavar="DIR",
        help="folder of the frames, relative to that of the new JSON (frames)",
    )
    parser.add_argument(
        "--split",
        choices=sorted(VIDEOS),
        default="validation",
        help="whose published count to compare with (validation)",
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    published: dict[str, int] = {}

    def open_source(collected: BoxImport) -> Iterable[BoxVideo]:
        masks = None if args.masks is None else read_burst(args.masks)
        layout, videos = read_tao_amodal(args.input, args.frames, collected, masks)
        logger.info("layout: %s", layout)
        published.update(SEQUENCES if layout == "sequences" else {"videos": VIDEOS[args.split]})
        return videos

    return convert_boxes(open_source, args.out, logger, published=published)


if __name__ == "__main__":
    sys.exit(main())
