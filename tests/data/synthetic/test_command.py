import argparse
import logging

import pytest

from amodal2.data.synthetic.command import (
    add_render_options,
    add_video_options,
    parse_size,
    run_command,
    splits_parser,
    wanted_splits,
)
from amodal2.utils.errors import MissingDependencyError

COUNTS = {"train": 5, "val": 2}


def read(*arguments):
    parser = splits_parser("What it does.", COUNTS)
    add_render_options(parser, (48, 32))
    add_video_options(parser, 24, "png")
    return parser.parse_args(["--out", "here", *arguments])


def test_parse_size_reads_width_first():
    assert parse_size("480x320") == (480, 320)
    with pytest.raises(argparse.ArgumentTypeError, match="WIDTHxHEIGHT"):
        parse_size("480")


def test_options_have_the_defaults_that_were_asked_for():
    args = read()
    assert (args.size, args.frames, args.format) == ((48, 32), 24, "png")
    assert (args.flow, args.force, args.seed) == (False, False, 0)
    assert args.workers >= 1


def test_wanted_splits_leaves_out_what_is_not_wanted():
    assert list(wanted_splits(read("--train", "0"), COUNTS)) == [("val", 2)]
    with pytest.raises(ValueError, match="--val >= 0, got -1"):
        list(wanted_splits(read("--val", "-1"), COUNTS))


@pytest.mark.parametrize(
    "problem", [ValueError("bad"), OSError("bad"), MissingDependencyError("bad")]
)
def test_run_command_says_what_is_wrong_and_returns_two(problem, caplog):
    def write():
        raise problem

    logger = logging.getLogger("prepare_toy")
    assert run_command(logger, lambda: None) == 0
    assert run_command(logger, write) == 2
    assert caplog.records[-1].getMessage() == "prepare_toy: bad"
