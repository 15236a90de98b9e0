"""Recognition of official weights by their names and shapes, and their translation into ours.

Names of Mask2Former, MinVIS, VITA and GenVIS are ours too (:mod:`amodal2.checkpoint.mask2former`
renames the older layout, :mod:`amodal2.checkpoint.roi_heads` the amodal ROI heads), so what is left
to do is to see what a file holds, to leave out what is computed anew or unused, and to start
A2VIS's visible head from VITA's mask head (A2VIS, Sec. 4.3).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from amodal2.checkpoint.backbones import SWIN_BUFFERS, backbone_names
from amodal2.checkpoint.c2f_seg import c2f_names, describe_c2f
from amodal2.checkpoint.mask2former import upgrade_mask2former_keys
from amodal2.checkpoint.roi_heads import roi_head_name, superfluous_in_roi_head

_WRAPPER = "module."
_PREDICTOR = "sem_seg_head.predictor."
_MASK_ROI_HEAD = "roi_heads.mask_head."
_SYSTEMS = (
    ("A2VIS", "a2vis.visible_embed.layers.0.weight"),
    ("GenVIS", "vita_module.pre_memory_embed_k.weight"),
    ("VITA", "vita_module.vita_mask_features.weight"),
    (
        "Mask2Former or MinVIS",
        f"{_PREDICTOR}transformer_cross_attention_layers.0.multihead_attn.in_proj_weight",
    ),
    ("AISFormer", f"{_MASK_ROI_HEAD}query_embed.weight"),
    ("BCNet", f"{_MASK_ROI_HEAD}boundary_predictor_bo.weight"),
    ("VRSP", f"{_MASK_ROI_HEAD}fuse_layer.weight"),
    ("MaskJoint or ORCNN", f"{_MASK_ROI_HEAD}visible_predictor.weight"),
    ("Mask R-CNN", f"{_MASK_ROI_HEAD}predictor.weight"),
)
"""Systems, each with a name that those below it lack."""

_MASK_HEAD, _VISIBLE_HEAD = "vita_module.mask_embed.", "a2vis.visible_embed."
_SWIN_SIZES = {(96, 6): "Swin-T", (96, 18): "Swin-S", (128, 18): "Swin-B", (192, 18): "Swin-L"}
_RESNET_DEPTHS = {6: 50, 23: 101, 36: 152}


@dataclass
class OfficialWeights:
    """A weight file under our names.

    Attributes:
        state (OrderedDict): name to array or tensor.
        recognised (str): what it holds, e.g. "VITA with ResNet-50, 40 classes, 100 frame queries,
            100 clip queries"; "" if that is unknown.
        renamed (dict[str, str]): name in the file to name here, where they differ.
        dropped (dict[str, str]): names in the file that were left out, with the reason.
        copied (dict[str, str]): further names to those whose values they have.
        alone (bool): True if it is a backbone without a detector.
    """

    state: OrderedDict[str, Any]
    recognised: str = ""
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    alone: bool = False

    def extend(self, other: OfficialWeights) -> None:
        """Add the weights of another file; where both have a name the other's count."""
        self.state.update(other.state)
        self.recognised = "; ".join(filter(None, (self.recognised, other.recognised)))
        self.renamed.update(other.renamed)
        self.dropped.update(other.dropped)
        self.copied.update(other.copied)
        self.alone = self.alone and other.alone


def translate_official(
    weights: Mapping[str, Any], model_names: Collection[str] = ()
) -> OfficialWeights:
    """Bring the names of a weight file to those of our models.

    Applying it twice changes nothing more. Files of other systems keep their names.

    Args:
        weights: name to array or tensor.
        model_names: names of the model that is to be filled; decides the prefix of a backbone and
            which entries are copied.

    Returns:
        OfficialWeights: see there.

    Raises:
        ValueError: if two entries get the same name.
    """
    bare = {name.removeprefix(_WRAPPER): name for name in weights}
    names = backbone_names(bare, model_names)
    if names is not None:
        # Without module versions: those of trainable norms mean something else to frozen ones.
        state = OrderedDict((new, weights[bare[old]]) for old, new in names.renamed.items())
        found = OfficialWeights(state, alone=True, dropped=dict(names.dropped))
        found.recognised = f"a backbone of {names.publisher}: {_backbone(state) or 'unknown size'}"
        found.renamed = {bare[old]: new for old, new in names.renamed.items() if bare[old] != new}
        return found
    stripped = _strip(weights)
    state = _rename(upgrade_mask2former_keys(stripped), roi_head_name)
    found = OfficialWeights(state)
    found.renamed = {old: new for old, new in zip(weights, state, strict=True) if old != new}
    for name in list(state):
        reason = SWIN_BUFFERS.get(name.rpartition(".")[2]) or superfluous_in_roi_head(name)
        if reason and name not in model_names:
            found.dropped[name] = reason
            del state[name]
    _translate_c2f(found, model_names)
    found.recognised = describe_weights(found.state) or describe_c2f(found.state)
    _start_visible_head(found, model_names)
    return found


def _rename(state: OrderedDict[str, Any], rename: Callable[[str], str]) -> OrderedDict[str, Any]:
    """Rename the entries; the module versions that torch looks at when loading stay."""
    renamed: OrderedDict[str, Any] = OrderedDict()
    if hasattr(state, "_metadata"):
        renamed._metadata = state._metadata  # type: ignore[attr-defined]
    for old, value in state.items():
        name = rename(old)
        if name in renamed:
            raise ValueError(
                f"translate_official: expected one key for '{name}', got '{old}' as well"
            )
        renamed[name] = value
    return renamed


def _translate_c2f(found: OfficialWeights, model_names: Collection[str]) -> None:
    """Rename and leave out entries of C2F-Seg's official files."""
    renamed, dropped = c2f_names(found.state, model_names)
    if not renamed and not dropped:
        return
    found.dropped.update(dropped)
    found.renamed.update(renamed)
    kept = ((old, value) for old, value in found.state.items() if old not in dropped)
    found.state = OrderedDict((renamed.get(old, old), value) for old, value in kept)


def _start_visible_head(found: OfficialWeights, model_names: Collection[str]) -> None:
    """Give A2VIS's visible head the values of VITA's mask head, unless it has its own."""
    for source in [name for name in found.state if name.startswith(_MASK_HEAD)]:
        target = _VISIBLE_HEAD + source.removeprefix(_MASK_HEAD)
        if target not in model_names or target in found.state:
            continue
        if source in model_names:
            found.state[target] = found.state[source]
            found.copied[target] = source
        else:
            found.state[target] = found.state.pop(source)
            name = next((old for old, new in found.renamed.items() if new == source), source)
            found.renamed[name] = target


def describe_weights(state: Mapping[str, Any]) -> str:
    """Say which system a model's weights belong to, and its size.

    Args:
        state: name to array or tensor, under our names.

    Returns:
        str: system, backbone, classes and queries; "" for unknown systems.
    """
    system = next((name for name, anchor in _SYSTEMS if anchor in state), "")
    if not system:
        return ""
    parts = [f"{system} with {_backbone(state) or 'another backbone'}"]
    sizes = (
        ("classes", f"{_PREDICTOR}class_embed.weight", -1),
        ("classes", "roi_heads.box_predictor.cls_score.weight", -1),
        ("frame queries", f"{_PREDICTOR}query_feat.weight", 0),
        ("clip queries", "vita_module.query_feat.weight", 0),
    )
    for what, name, offset in sizes:
        if name in state:
            parts.append(f"{state[name].shape[0] + offset} {what}")
    return ", ".join(parts)


def _backbone(state: Mapping[str, Any]) -> str:
    """Name a backbone of known size; "" otherwise."""
    for name, value in state.items():
        if name.endswith("patch_embed.proj.weight"):
            return _SWIN_SIZES.get(
                (value.shape[0], _count(state, r"\.layers\.2\.blocks\.(\d+)\.")), ""
            )
    depth = _RESNET_DEPTHS.get(_count(state, r"\.res4\.(\d+)\.conv3\."))
    return f"ResNet-{depth}" if depth else ""


def _count(names: Collection[str], pattern: str) -> int:
    """Number of different blocks whose names match."""
    return len({found[1] for name in names if (found := re.search(pattern, name))})


def _strip(weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove the prefix that models wrapped for several GPUs give their names."""
    if not any(name.startswith(_WRAPPER) for name in weights):
        return weights
    return {name.removeprefix(_WRAPPER): value for name, value in weights.items()}
