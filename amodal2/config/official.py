"""Keys of the official configs of AISFormer and AIStron under our names.

Their yaml files and command-line keys can be merged as they are; every change is logged. Keys that
nothing reads there, or that say what is fixed here, are left out when their value is that of the
official default, and refused otherwise.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.config import CfgNode

_AISFORMER = "MODEL.AISFORMER."
_CUSTOM_NAME = "MODEL.ROI_MASK_HEAD.CUSTOM_NAME"
RENAMED = {
    "MODEL.AISFormer.N_LAYERS": f"{_AISFORMER}N_LAYERS",
    "MODEL.AISFormer.N_HEADS": f"{_AISFORMER}N_HEADS",
    "MODEL.AISFormer.JUSTIFY_LOSS": f"{_AISFORMER}INVISIBLE_EMBED",
    _CUSTOM_NAME: "MODEL.ROI_MASK_HEAD.NAME",
    "AISFORMER.N_LAYERS": f"{_AISFORMER}N_LAYERS",
    "AISFORMER.N_HEADS": f"{_AISFORMER}N_HEADS",
    "AISFORMER.EMB_DIM": f"{_AISFORMER}EMB_DIM",
    "AISFORMER.INVISIBLE_MASK_LOSS": f"{_AISFORMER}INVISIBLE_EMBED",
    "AISTRON.INFERENCE_WITH_GT_BOXES": "MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES",
}
"""Official key -> ours; the first four are AISFormer's, the others AIStron's."""
LEFT_OUT: dict[str, Any] = {
    "MODEL.AISFormer.USE": True,
    "MODEL.AISFormer.MASK_LOSS_ONLY": False,
    "MODEL.AISFormer.BO_LOSS": False,
    "MODEL.AISFormer.AMODAL_EVAL": True,
    "MODEL.ROI_MASK_HEAD.VERSION": 0,
    "MODEL.ALL_LAYERS_ROI_POOLING": False,
    "DICE_LOSS": False,
}
"""Official key -> the only value that can be left out."""
DATASETS = {
    "kins_dataset_train": "kins_2019_amodal_train",
    "kins_dataset_val": "kins_2019_amodal_test",
    "kins_train": "kins_2019_amodal_train",
    "kins_test": "kins_2019_amodal_test",
    "kins2020_train": "kins_2020_amodal_train",
    "kins2020_test": "kins_2020_amodal_test",
    "cocoa_train": "cocoa_2014_amodal_train",
    "cocoa_val": "cocoa_2014_amodal_val",
    "cocoa_cls_train": "cocoa_cls_amodal_train",
    "cocoa_cls_val": "cocoa_cls_amodal_val",
    "d2sa_train": "d2sa_v1_amodal_train",
    "d2sa_train_aug": "d2sa_v1_amodal_train",
    "d2sa_val": "d2sa_v1_amodal_val",
}
"""Official dataset -> ours; D2SA's two training sets are one file here."""
IMPLIED = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNNAmodal",
    "INPUT.AMODAL.MAPPER": "ImageMapper",
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.WEIGHT_DECAY": 0.0001,
    "SOLVER.WEIGHT_DECAY_EMBED": 0.0001,
    "SOLVER.BACKBONE_MULTIPLIER": 1.0,
}
"""Keys that an official file sets here, unless it has them: what both projects do always."""

logger = logging.getLogger(__name__)


class AmodalCfgNode(CfgNode):
    """Detectron2's node, which also takes the official keys."""

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> Any:
        """Merge the keys of a file, as Detectron2 does, official ones under our names.

        Raises:
            KeyError: if a key is unknown.
            ValueError: if an official key has a value that nothing here stands for.
        """
        return super().merge_from_other_cfg(translate_official_config(cfg_other))

    @classmethod
    def _decode_cfg_value(cls, value: Any) -> Any:
        """Leave sections as they are; the base class would give them this class, unlike ours."""
        return value if isinstance(value, CfgNode) else super()._decode_cfg_value(value)

    def merge_from_list(self, cfg_list: list[Any]) -> Any:
        """Merge keys and values of a command line; see :meth:`merge_from_other_cfg`."""
        pairs = list(cfg_list)
        for place in range(0, len(pairs) - 1, 2):
            name = RENAMED.get(pairs[place])
            if name is not None:
                logger.info("%s is %s here", pairs[place], name)
                pairs[place] = name
        return super().merge_from_list(pairs)


def translate_official_config(cfg: CfgNode) -> CfgNode:
    """Return a config with official keys and datasets under our names.

    A file is official if it has one of their keys or datasets. AIStron's AISFormer is
    ``AISFormerDeep`` here.

    Args:
        cfg: what a yaml file says; not changed. Others stay as they are.

    Returns:
        CfgNode: the same keys or ours.

    Raises:
        ValueError: if a key that is left out has a value that nothing here stands for, or a key is
            given under two names.
    """
    flat = dict(_flat(cfg))
    named = [_names(flat.get(f"DATASETS.{split}", ())) for split in ("TRAIN", "TEST")]
    keys = flat.keys() & (RENAMED.keys() | LEFT_OUT.keys())
    if not keys and not any(name in DATASETS for names in named for name in names):
        return _nested(flat)
    result = {name: value for name, value in flat.items() if name not in keys}
    for name in sorted(keys):
        _translate(name, flat[name], result)
    if any(name.startswith("AISFORMER.") for name in keys):
        _set(result, "MODEL.ROI_MASK_HEAD.NAME", "AISFormerDeep")
    for split, names in zip(("TRAIN", "TEST"), named, strict=True):
        if names:
            ours = tuple(dict.fromkeys(DATASETS.get(name, name) for name in names))
            _set(result, f"DATASETS.{split}", ours)
    for name, value in IMPLIED.items():
        if name not in result or name == "MODEL.META_ARCHITECTURE":
            _set(result, name, value)
    return _nested(result)


def _translate(name: str, value: Any, result: dict[str, Any]) -> None:
    """Put an official key into the result under our name, or leave it out."""
    if name in LEFT_OUT:
        if value != LEFT_OUT[name]:
            raise ValueError(
                f"translate_official_config: expected {name} {LEFT_OUT[name]}, the official "
                f"default, which has no key here, got {value}"
            )
        logger.info("%s is left out: it is always %s here", name, value)
        return
    new = RENAMED[name]
    if new in result and name != _CUSTOM_NAME:
        raise ValueError(f"translate_official_config: expected one of {name} and {new}, got both")
    logger.info("%s is %s here", name, new)
    result[new] = value


def _set(result: dict[str, Any], name: str, value: Any) -> None:
    if result.get(name) != value:
        logger.info("%s is set to %s", name, value)
    result[name] = value


def _names(value: Any) -> tuple[str, ...]:
    """Read names of datasets; yaml has tuples as text."""
    if isinstance(value, str):
        value = ast.literal_eval(value) if value.startswith(("(", "[")) else (value,)
    return tuple(value)


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values; an empty section is a value."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _nested(flat: Mapping[str, Any]) -> CfgNode:
    """Undo :func:`_flat`, with plain nodes, as those that they are merged into."""
    result = CfgNode()
    for name, value in flat.items():
        *sections, key = name.split(".")
        node = result
        for section in sections:
            node = node.setdefault(section, CfgNode())
        node[key] = CfgNode() if isinstance(value, Mapping) else value
    return result
