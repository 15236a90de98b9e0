"""Logging: one logger tree ``amodal2``, a handler only when a program asks for it."""

from __future__ import annotations

import logging
import sys
from functools import lru_cache
from typing import TextIO


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module of this package.

    Args:
        name (str): ``__name__`` of the module.

    Returns:
        logging.Logger: logger below ``amodal2``.
    """
    inside = name == "amodal2" or name.startswith("amodal2.")
    return logging.getLogger(name if inside else f"amodal2.{name}")


def setup_logging(level: int = logging.INFO, stream: TextIO | None = None) -> logging.Logger:
    """Send the package's log lines to a stream; a second call replaces the first.

    Args:
        level (int): lowest level that is written.
        stream (TextIO | None): where to; None means standard error.

    Returns:
        logging.Logger: the logger ``amodal2``.
    """
    logger = logging.getLogger("amodal2")
    for handler in [h for h in logger.handlers if getattr(h, "amodal2_stream", False)]:
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(logging.Formatter("[%(levelname)s %(name)s] %(message)s"))
    handler.amodal2_stream = True  # type: ignore[attr-defined]
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    return logger


@lru_cache(maxsize=1024)
def warn_once(logger: logging.Logger, message: str) -> None:
    """Log a warning the first time this logger is given this text.

    Args:
        logger (logging.Logger): logger to write to.
        message (str): finished text, without format arguments.
    """
    logger.warning(message)
