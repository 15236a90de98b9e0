"""Configuration keys of amodal2 on top of Detectron2's.

One ``add_*_config`` function per family; :func:`add_amodal2_config` calls them all, and
:func:`get_cfg` returns Detectron2's defaults with every key of ours added.
"""

from detectron2.config import CfgNode
from detectron2.config import get_cfg as _detectron2_defaults

from amodal2.config.a2vis import add_a2vis_config
from amodal2.config.baselines import add_baselines_config
from amodal2.config.c2f_seg import add_c2f_seg_config
from amodal2.config.common import add_common_config
from amodal2.config.diffusion_vas import add_diffusion_vas_config
from amodal2.config.mask_classification import add_mask_classification_config
from amodal2.config.mask_transfer import add_mask_transfer_config
from amodal2.config.official import AmodalCfgNode
from amodal2.config.roi_heads import add_roi_heads_config
from amodal2.config.savos import add_savos_config

__all__ = [
    "AmodalCfgNode",
    "add_a2vis_config",
    "add_amodal2_config",
    "add_baselines_config",
    "add_c2f_seg_config",
    "add_common_config",
    "add_diffusion_vas_config",
    "add_mask_classification_config",
    "add_mask_transfer_config",
    "add_roi_heads_config",
    "add_savos_config",
    "get_cfg",
]


def add_amodal2_config(cfg: CfgNode) -> None:
    """Add every key of amodal2 to a Detectron2 config.

    Args:
        cfg: Detectron2's default configuration; changed in place.
    """
    add_common_config(cfg)
    add_mask_classification_config(cfg)
    add_a2vis_config(cfg)
    add_baselines_config(cfg)
    add_roi_heads_config(cfg)
    add_mask_transfer_config(cfg)
    add_c2f_seg_config(cfg)
    add_savos_config(cfg)
    add_diffusion_vas_config(cfg)


def get_cfg() -> CfgNode:
    """Return Detectron2's default configuration with the keys of amodal2.

    Returns:
        A new, unfrozen configuration, which also takes the files of AISFormer and AIStron.
    """
    cfg = AmodalCfgNode()
    cfg.update(_detectron2_defaults())
    add_amodal2_config(cfg)
    return cfg
