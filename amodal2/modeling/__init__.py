"""Models; importing this package registers meta-architectures, backbones, heads, completers."""

import amodal2.utils.detectron2_compat  # noqa: F401 first: imports Detectron2 without warnings
from amodal2.modeling import (
    a2vis,
    backbone,
    baselines,
    c2f_seg,
    completion,
    diffusion_vas,
    mask_transfer,
    roi_heads,
    savos,
)

__all__ = [
    "a2vis",
    "backbone",
    "baselines",
    "c2f_seg",
    "completion",
    "diffusion_vas",
    "mask_transfer",
    "roi_heads",
    "savos",
]
