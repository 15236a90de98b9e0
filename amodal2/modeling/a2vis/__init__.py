"""A2VIS: amodal-aware video instance segmentation.

| paper section | file | class | parameter prefix |
|---|---|---|---|
| Sec. 3.2, frame detector | ../mask_classification/head.py | MaskFormerHead | sem_seg_head |
| Sec. 3.2, clips | ../mask_classification/object_association.py | ObjectAssociation | vita_module |
| Sec. 3.3, Eq. 2 | prototypes.py | PrototypeUpdate | a2vis.update, a2vis.global_query_* |
| Sec. 3.4 | visible_mask_head.py | dot_product_masks | a2vis.visible_embed |
| Sec. 3.5-3.6, Algorithm 1 | samh.py | SAMH | a2vis.samh |
| Sec. 3.7 | prototypes.py | ClassHead | a2vis.class_head |
| Sec. 3.8, Eq. 3-4 | criterion.py | VideoCriterion | |
| Fig. 2, recurrence over clips | head.py, model.py | A2VISHead, A2VIS | a2vis |
"""

from amodal2.modeling.a2vis.model import A2VIS

__all__ = ["A2VIS"]
