"""Amodal ROI heads for Detectron2's two-stage detector.

| paper | file | class | parameter prefix below ``roi_heads.mask_head`` |
|---|---|---|---|
| Mask R-CNN on amodal masks | mask_rcnn.py | AmodalMaskRCNNHead | mask_fcn, deconv, predictor |
| MaskJoint (SAIL-VOS) | mask_rcnn.py | MaskJointHead | {amodal,visible}_ before each of these |
| ORCNN | mask_rcnn.py | ORCNNHead | as MaskJoint |
| AISFormer | aisformer.py | AISFormer | official names without ``mask_head_model.`` |
| AISFormer as in AIStron | aisformer.py | AISFormerDeep | AIStron's |
| BCNet | bcnet.py | BCNet | official names |
| VRSP | vrsp.py, reclassifier.py | VRSPHead | as MaskJoint, fuse_layer, recon_net, recls |

The heads are in Detectron2's ``ROI_MASK_HEAD_REGISTRY`` and work in its ``GeneralizedRCNN`` with
``StandardROIHeads``. ``GeneralizedRCNNAmodal`` (amodal_rcnn.py) pastes every kind of mask and keeps
one copy of the ground truth; ``GeneralizedRCNNAmodalWithTTA`` (test_time_augmentation.py) averages
over versions of an image. What they share is in amodal_mask_head.py, mask_targets.py,
mask_losses.py, towers.py and postprocess.py; VRSP's shapes are learned by shape_learning.py and
kept by shape_codebook.py. ``AmodalTrackRCNN`` (track_rcnn.py, track_linking.py, track_memory.py)
adds the track head of MaskTrack R-CNN, so that any of the heads follows the objects of a video.
"""

from amodal2.modeling.roi_heads.aisformer import AISFormer, AISFormerDeep
from amodal2.modeling.roi_heads.amodal_mask_head import AmodalMaskHead
from amodal2.modeling.roi_heads.amodal_rcnn import GeneralizedRCNNAmodal
from amodal2.modeling.roi_heads.bcnet import BCNet
from amodal2.modeling.roi_heads.mask_rcnn import AmodalMaskRCNNHead, MaskJointHead, ORCNNHead
from amodal2.modeling.roi_heads.postprocess import amodal_postprocess
from amodal2.modeling.roi_heads.test_time_augmentation import GeneralizedRCNNAmodalWithTTA
from amodal2.modeling.roi_heads.track_rcnn import AmodalTrackRCNN
from amodal2.modeling.roi_heads.vrsp import VRSPHead

__all__ = [
    "AISFormer",
    "AISFormerDeep",
    "AmodalMaskHead",
    "AmodalMaskRCNNHead",
    "AmodalTrackRCNN",
    "BCNet",
    "GeneralizedRCNNAmodal",
    "GeneralizedRCNNAmodalWithTTA",
    "MaskJointHead",
    "ORCNNHead",
    "VRSPHead",
    "amodal_postprocess",
]
