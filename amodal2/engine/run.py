"""What every run does first: log files, a report of the environment, a copy of the config."""

from __future__ import annotations

import logging
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from amodal2.utils.files import atomic_write

_LOGGERS = ("amodal2", "detectron2", "fvcore")


def start_run(cfg: CfgNode) -> logging.Logger:
    """Set up logging to the screen and to ``OUTPUT_DIR``, and write ``config.yaml`` there.

    Args:
        cfg: complete configuration.

    Returns:
        logging.Logger: the logger of the package.
    """
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _LOGGERS:
        setup_logger(str(folder), distributed_rank=comm.get_rank(), name=name)
    logger = logging.getLogger("amodal2")
    logger.info("Process %d of %d, output in %s", comm.get_rank(), comm.get_world_size(), folder)
    if comm.is_main_process():
        with atomic_write(folder / "config.yaml") as temporary:
            temporary.write_text(cfg.dump(), encoding="utf-8")
    return logger
