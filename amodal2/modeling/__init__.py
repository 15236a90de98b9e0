"""Models; importing this package registers every meta-architecture and backbone."""

import amodal2.utils.detectron2_compat  # noqa: F401 first: imports Detectron2 without warnings
from amodal2.modeling import a2vis, backbone, baselines, diffusion_vas

__all__ = ["a2vis", "backbone", "baselines", "diffusion_vas"]
