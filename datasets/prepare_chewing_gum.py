"""Make the Chewing Gum videos of the SaVos paper, with exact masks and flow.

    python datasets/prepare_chewing_gum.py --out datasets/chewing_gum_paper --variant paper \\
        --train 10000 --val 500 --test 1000 --seed 0

writes ``train.json``, ``val.json``, ``test.json`` and the frames and flow that they name, or with
``--npz`` one archive per split; see datasets/README.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from amodal2.data.synthetic.chewing_gum import FRAMES, VARIANTS
from amodal2.data.synthetic.gum_writer import SPLITS, GumSpec, write_gum_arrays, write_gum_split

logger = logging.getLogger("prepare_chewing_gum")

_COUNTS = {"train": 10000, "val": 500, "test": 1000}


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="root folder of the dataset")
    parser.add_argument(
        "--variant", choices=sorted(VARIANTS), default="paper", help="official has the square"
    )
    for split in SPLITS:
        parser.add_argument(
            f"--{split}", type=int, default=_COUNTS[split], metavar="N", help=f"({_COUNTS[split]})"
        )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (0)")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"per video ({FRAMES})")
    parser.add_argument("--npz", action="store_true", help="one archive per split instead")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Make all splits; return the exit status."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        spec = GumSpec(args.variant, args.seed, args.frames)
        args.out.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            count = getattr(args, split)
            if count < 1:
                continue
            if args.npz:
                write_gum_arrays(spec, args.out / f"{split}.npz", split, count)
            else:
                write_gum_split(spec, args.out, split, count)
            logger.info("%s: %d videos", split, count)
    except (ValueError, OSError) as error:
        logger.error("prepare_chewing_gum: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
