"""Lookup of config files, shipped weights and ready models."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

import amodal2.modeling  # noqa: F401 registers the systems
from amodal2.checkpoint import AmodalCheckpointer
from amodal2.checkpoint.zoo_path import PREFIX, shipped_weights
from amodal2.config import get_cfg
from amodal2.utils.device import available_device

_HERE = Path(__file__).resolve().parent
# In an installed package the configs lie beside this file, in the repository at its root.
_CONFIG_FOLDERS = (_HERE / "configs", _HERE.parent.parent / "configs")


def list_configs() -> list[str]:
    """Return the names of all config files, sorted, without the bases that others inherit from."""
    folder = _config_folder()
    names = (path.relative_to(folder) for path in folder.rglob("*.yaml"))
    return sorted(name.as_posix() for name in names if not name.name.startswith("Base"))


def get_config_file(name: str) -> str:
    """Return the path of a config file.

    Args:
        name: path below ``configs/``.

    Returns:
        str: an existing file.

    Raises:
        FileNotFoundError: if there is none; the message lists those there are.
    """
    path = _config_folder() / name
    if not path.is_file():
        raise FileNotFoundError(
            f"get_config_file: expected one of {', '.join(list_configs())}, got {name!r}"
        )
    return str(path)


def get_config(name: str, trained: bool = True) -> CfgNode:
    """Return the configuration of a model.

    Args:
        name: path below ``configs/``.
        trained: False clears ``MODEL.WEIGHTS``.

    Returns:
        CfgNode: not frozen.
    """
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(name))
    if not trained:
        cfg.MODEL.WEIGHTS = ""
    return cfg


def get_checkpoint(name: str) -> str:
    """Return the weights that a config names, as a local file if they are shipped in the package.

    Args:
        name: path of the config below ``configs/``.

    Returns:
        str: an existing file for shipped weights, else ``MODEL.WEIGHTS`` as it is.

    Raises:
        CheckpointError: if the config names shipped weights that are not there.
        ValueError: if the config names none.
    """
    weights = get_config(name).MODEL.WEIGHTS
    if not weights:
        raise ValueError(f"get_checkpoint: expected MODEL.WEIGHTS in {name}, got none")
    return str(shipped_weights(weights)) if weights.startswith(PREFIX) else weights


def get(name: str, trained: bool = True, device: str | None = None) -> nn.Module:
    """Build a model in evaluation mode.

    Args:
        name: path of its config below ``configs/``.
        trained: load the weights that the config names; they must fit exactly.
        device: where to put it; None takes ``MODEL.DEVICE`` of the config, or the CPU if that is a
            GPU and there is none.

    Returns:
        nn.Module: the model.

    Raises:
        CheckpointError: if the weights do not fit.
    """
    cfg = get_config(name, trained)
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE) if device is None else device
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint(name)
    return load_model(cfg)


def load_model(cfg: CfgNode) -> nn.Module:
    """Build the model of a configuration in evaluation mode, with its weights.

    Args:
        cfg: complete configuration; an empty ``MODEL.WEIGHTS`` leaves the weights random.

    Returns:
        nn.Module: the model.

    Raises:
        CheckpointError: if the weights do not fit exactly.
    """
    model = build_model(cfg)
    if cfg.MODEL.WEIGHTS:
        checkpointer = AmodalCheckpointer(model)
        checkpointer.load(cfg.MODEL.WEIGHTS)
        checkpointer.last_report.require_exact(cfg.MODEL.WEIGHTS)
    return model.eval()


def _config_folder() -> Path:
    for folder in _CONFIG_FOLDERS:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"model_zoo: expected configs in {_CONFIG_FOLDERS[0]}, got no such folder"
    )
