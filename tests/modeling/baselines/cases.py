"""The baselines in all the ways in which they are trained, for the tests."""

from typing import Any

import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the models
from tests.modeling.tiny import tiny_config

_NAME = "MODEL.META_ARCHITECTURE"
_FRAME = ("MODEL.BASELINES.TRAIN_LEVEL", "frame")
_FIXED = ("MODEL.BASELINES.FREEZE_DETECTOR", True)
_AMODAL = ("MODEL.BASELINES.MASKS", "amodal")
_NO_SIM = ("MODEL.VITA.SIM_WEIGHT", 0.0)
_FINAL = ("MODEL.MASK_FORMER.DEEP_SUPERVISION", False, "MODEL.VITA.DEEP_SUPERVISION", False)

CASES: dict[str, tuple[Any, ...]] = {
    "vita": (_NAME, "VITA"),
    "vita_frame": (_NAME, "VITA", *_FRAME),
    "vita_fixed": (_NAME, "VITA", *_FIXED, "MODEL.VITA.ENC_WINDOW_SIZE", 3),
    "vita_no_similarity": (_NAME, "VITA", *_NO_SIM),
    "vita_frames_similarity": (_NAME, "VITA", "MODEL.VITA.SIM_USE_CLIP", False),
    "vita_final_losses": (_NAME, "VITA", *_FINAL),
    "vita_amodal": (_NAME, "VITA", *_AMODAL),
    "genvis": (_NAME, "GenVIS", *_FIXED),
    "genvis_unfrozen": (_NAME, "GenVIS"),
    "genvis_online": (_NAME, "GenVIS", *_FIXED, "INPUT.AMODAL.CLIP_LEN", 1),
    "genvis_one_clip": (_NAME, "GenVIS", *_FIXED, "INPUT.AMODAL.CLIP_LEN", 4),
    "genvis_official": (_NAME, "GenVIS", *_FIXED, "MODEL.GENVIS.EXCLUDE_HIDDEN", False),
    "genvis_cap": (_NAME, "GenVIS", "INPUT.AMODAL.CLIP_LEN", 1, "MODEL.GENVIS.MEMORY_CAP", 1),
    "genvis_no_similarity": (_NAME, "GenVIS", *_FIXED, *_NO_SIM),
    "genvis_final_losses": (_NAME, "GenVIS", *_FIXED, *_FINAL),
    "genvis_amodal": (_NAME, "GenVIS", *_FIXED, *_AMODAL),
    "minvis": (_NAME, "MinVIS"),
    "minvis_amodal": (_NAME, "MinVIS", *_AMODAL),
    "mask2former_vis": (_NAME, "Mask2FormerVIS"),
    "mask2former_vis_frame": (_NAME, "Mask2FormerVIS", *_FRAME),
    "mask2former_amodal": (_NAME, "Mask2FormerVIS", *_AMODAL),
}
CASES["genvis_one_clip"] += ("INPUT.AMODAL.NUM_CLIPS", 1)
CASES["genvis_online"] += ("INPUT.AMODAL.NUM_CLIPS", 4)
CASES["genvis_cap"] += ("INPUT.AMODAL.NUM_CLIPS", 4)


def build(case: str, *changes: Any) -> torch.nn.Module:
    """Build a tiny model in training mode, with weights that depend on nothing but the seed."""
    torch.manual_seed(0)
    return build_model(tiny_config(*CASES[case], *changes)).train()
