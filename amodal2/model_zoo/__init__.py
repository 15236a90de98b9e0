"""Config files and trained models by name.

A name is the path of a yaml file below ``configs/``, e.g. ``"a2vis/quick/a2vis_aquarium.yaml"``.
"""

import amodal2.utils.detectron2_compat  # noqa: F401 first: imports Detectron2 without warnings
from amodal2.model_zoo.model_zoo import (
    get,
    get_checkpoint,
    get_config,
    get_config_file,
    list_configs,
    load_model,
)

__all__ = ["get", "get_checkpoint", "get_config", "get_config_file", "list_configs", "load_model"]
