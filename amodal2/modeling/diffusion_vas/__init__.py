"""Diffusion-VAS: amodal masks and hidden content by video diffusion (Chen et al., CVPR 2025).

| paper | file | class or function |
|---|---|---|
| Sec. 3.2, UNet with two conditions | unet.py | DiffusionVASUNet (official ``conv_in2``) |
| Sec. 3.2, modal mask, pseudo-depth, RGB | conditions.py | mask_condition, depth_condition |
| Sec. 3.1 and 3.2, sampling with guidance | pipeline.py, settings.py | DiffusionVASPipeline |
| Sec. 4.1, threshold and Top-K | masks.py | amodal_masks, majority_vote |
| Sec. 3.2, training | training.py, edm.py, model.py | training_loss, DiffusionVAS |
| both stages on clips | inference.py | ClipModel |
| as a completer of given masks | completer.py | DiffusionVASCompleter |
| Sec. 3.2, pseudo-depth | depth_anything.py, depth_weights.py | DepthAnything |
| weights | loading.py, presets.py | load_pipeline |
| (own design) LoRA, fast temporal convolutions | lora.py, temporal_conv.py | add_lora |
| (own design) videos of any length | windows.py | run_windows |

``unet``, ``pipeline`` and ``training`` need the extra ``diffusion`` and are imported only where it
is used; everything else can be imported without it.
"""

from amodal2.modeling.diffusion_vas.completer import DiffusionVASCompleter
from amodal2.modeling.diffusion_vas.model import DiffusionVAS

__all__ = ["DiffusionVAS", "DiffusionVASCompleter"]
