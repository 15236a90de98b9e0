"""C2F-Seg: coarse-to-fine amodal segmentation with shape prior, of images and of video.

| paper section | file | class | parameter prefix |
|---|---|---|---|
| Sec. 3.1, codes of masks | vq_mask.py, vq_blocks.py | MaskAutoencoder | g_model |
| Sec. 3.2, mask-and-predict transformer | coarse_transformer.py | CoarseTransformer | model |
| Sec. 3.2, masking and decoding | decoding.py | decode_codes, hide_codes | |
| Sec. 3.3, refinement | refine.py | RefineModule | refine |
| Sec. 3.4, spatial-temporal blocks | coarse_transformer.py | VideoBlock | model.blocks |
| crops back into images | paste.py | paste_patch | |
"""
