"""Names of official weights of amodal ROI heads: AISFormer, and ORCNN and VRSP of Xiao et al.

BCNet, AIStron and Detectron2's Mask R-CNN have our names.
"""

from __future__ import annotations

import re

_HEAD = "roi_heads.mask_head."
_AISFORMER = f"{_HEAD}mask_head_model."
_RECLASSIFIER = "roi_heads.recls."
_TOWER = re.compile(r"^roi_heads\.(amodal|visible)_mask_head\.(?:(deconv|predictor)\.)?")
_UNUSED = {
    f"{_HEAD}predictor_TR.": "the official code does not use it",
    "roi_heads.recon_net.": "repeats roi_heads.mask_head.recon_net",
    f"{_HEAD}recls.": "belongs to the re-classifier, see MODEL.VRSP.RECLASSIFIER",
}


def roi_head_name(name: str) -> str:
    """Return our name of a parameter of an official amodal ROI head.

    Args:
        name: as in the file.

    Returns:
        str: the name here; other names stay as they are.
    """
    if name.startswith(_AISFORMER):
        return _HEAD + name.removeprefix(_AISFORMER)
    if name.startswith(_RECLASSIFIER):
        return f"{_HEAD}recls.{name.removeprefix(_RECLASSIFIER)}"
    tower = _TOWER.match(name)
    if tower is None:
        return name
    part = f"{tower[1]}_{tower[2]}." if tower[2] else ""
    return _HEAD + part + name[tower.end() :]


def superfluous_in_roi_head(name: str) -> str:
    """Say why our heads have no place for an entry.

    Args:
        name: under our names.

    Returns:
        str: the reason; "" if they may have a place.
    """
    return next((why for prefix, why in _UNUSED.items() if name.startswith(prefix)), "")
