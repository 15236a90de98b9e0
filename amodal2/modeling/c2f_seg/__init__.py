"""C2F-Seg: coarse-to-fine amodal segmentation with shape prior, of images and of video.

| paper section | file | class | parameter prefix |
|---|---|---|---|
| Sec. 3.1, codes of masks | vq_mask.py, vq_blocks.py | MaskAutoencoder | g_model |
| Sec. 3.2, mask-and-predict transformer | coarse_transformer.py | CoarseTransformer | model |
| Sec. 3.2, masking and decoding | decoding.py | decode_codes, hide_codes | |
| Sec. 3.3, refinement | refine.py | RefineModule | refine |
| Sec. 3.4, spatial-temporal blocks | coarse_transformer.py | VideoBlock | model.blocks |
| Sec. 3.1, training | mask_vq.py, discriminator.py, perceptual.py | MaskVQ | d_model |
| training and tests of stage 2 | model.py | C2FSeg | |
| crops back into images | paste.py | paste_patch | |
| completion of given masks | completer.py | C2FSegCompleter | |

The official ``img_encoder`` is Detectron2's ResNet here (``backbone``);
:mod:`amodal2.checkpoint.c2f_seg` renames its weights.
"""

from amodal2.modeling.c2f_seg.completer import C2FSegCompleter
from amodal2.modeling.c2f_seg.mask_vq import MaskVQ
from amodal2.modeling.c2f_seg.model import C2FSeg

__all__ = ["C2FSeg", "C2FSegCompleter", "MaskVQ"]
