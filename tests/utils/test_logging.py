"""Tests of amodal2/utils/logging.py."""

import io
import logging

import pytest

from amodal2.utils.logging import get_logger, setup_logging, warn_once


@pytest.fixture
def package_logger():
    logger = logging.getLogger("amodal2")
    before = list(logger.handlers), logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


def test_setup_logging_twice_writes_each_line_once(package_logger):
    first, second = io.StringIO(), io.StringIO()
    setup_logging(stream=first)
    setup_logging(stream=second)
    get_logger("amodal2.video").info("hello")
    assert first.getvalue() == ""
    assert second.getvalue() == "[INFO amodal2.video] hello\n"


def test_warn_once_repeated_writes_one_line(package_logger):
    stream = io.StringIO()
    setup_logging(stream=stream)
    logger = get_logger("tools.demo")
    for _ in range(3):
        warn_once(logger, "no object found")
    assert stream.getvalue() == "[WARNING amodal2.tools.demo] no object found\n"
