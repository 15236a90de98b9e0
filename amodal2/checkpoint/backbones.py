"""Names of published backbones: ResNets of torchvision, Swin Transformers of Microsoft and timm.

Files are taken as published and as the tools of Detectron2 and Mask2Former convert them. Those ask
for matching by suffixes, which takes a norm of a classifier for any other norm; the names here are
exact. The ResNets of Detectron2's own (Caffe2) are left to its matching.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

SWIN_BUFFERS = {
    "relative_position_index": "computed anew",
    "attn_mask": "computed anew",
}
"""Last component of buffers in Swin files that depend on no training, and why they are left out."""

_SWIN = ("patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table")
_CLASSIFIER = "belongs to the classifier"
_COUNTER = "counts batches"


@dataclass(frozen=True)
class BackboneNames:
    """Translation of a backbone's names.

    Attributes:
        publisher (str): whose names they are.
        renamed (dict[str, str]): name in the file to name in the model.
        dropped (dict[str, str]): entries without a place in a detector, with the reason.
    """

    publisher: str
    renamed: dict[str, str]
    dropped: dict[str, str]


def backbone_names(names: Collection[str], model_names: Collection[str]) -> BackboneNames | None:
    """Recognise a file that holds a backbone alone.

    Args:
        names: names in the file.
        model_names: names of the model, from which the place of the backbone is taken; without a
            fitting one it is ``backbone.``.

    Returns:
        BackboneNames: None if it is no published backbone.
    """
    if all(name in names for name in _SWIN):
        merging = "layers.0.downsample.reduction.weight" in names
        publisher = "Microsoft" if merging else "timm"
        anchor, rename = _SWIN[0], (_swin_name if merging else _timm_swin_name)
    elif "layer1.0.conv1.weight" in names or "res2.0.conv1.weight" in names:
        publisher, anchor, rename = "torchvision", "stem.conv1.weight", torchvision_resnet_name
    else:
        return None
    places = (n.removesuffix(anchor) for n in model_names if n.endswith(f".{anchor}"))
    prefix = next(places, "backbone.")
    result = BackboneNames(publisher, {}, {})
    for name in names:
        new = prefix + rename(name)
        reason = _superfluous(name, new, model_names)
        if reason:
            result.dropped[name] = reason
        else:
            result.renamed[name] = new
    return result


def _superfluous(name: str, new: str, model_names: Collection[str]) -> str:
    """Say why no detector has a place for an entry; "" if one may have."""
    last = name.rpartition(".")[2]
    if last in SWIN_BUFFERS:
        return SWIN_BUFFERS[last]
    if name.startswith(("fc.", "stem.fc.", "head.", "norm.")):
        return _CLASSIFIER
    if last == "num_batches_tracked" and new not in model_names:
        return _COUNTER
    return ""


def torchvision_resnet_name(name: str) -> str:
    """Return Detectron2's name of an entry of torchvision's ResNet, converted or not."""
    name = re.sub(r"^(?=conv1\.|bn1\.)", "stem.", name)
    name = re.sub(r"^layer(\d)", lambda found: f"res{int(found[1]) + 1}", name)
    name = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)
    return name.replace(".downsample.0.", ".shortcut.").replace(".downsample.1.", ".shortcut.norm.")


def _swin_name(name: str) -> str:
    return name


def _timm_swin_name(name: str) -> str:
    """Official name: timm counts a patch merging to the stage after it."""
    return re.sub(
        r"^layers\.(\d+)\.downsample\.",
        lambda found: f"layers.{int(found[1]) - 1}.downsample.",
        name,
    )
