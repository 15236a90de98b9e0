"""Diffusion-VAS: amodal masks and hidden content by video diffusion (Chen et al., CVPR 2025).

| paper | file | class or function |
|---|---|---|
| Sec. 3.2, UNet with two conditions | unet.py | DiffusionVASUNet, ``conv_in2`` of the official weights |
| Sec. 3.2, modal mask, pseudo-depth, RGB | conditions.py | mask_condition, depth_condition |
| Sec. 3.1 and 3.2, sampling with guidance | pipeline.py, settings.py | DiffusionVASPipeline |
| Sec. 4.1, threshold and Top-K | masks.py | amodal_masks, majority_vote |
| (own design) videos of any length | windows.py | run_windows |

``unet`` and ``pipeline`` need the extra ``diffusion``; everything else can be imported without it.
"""
