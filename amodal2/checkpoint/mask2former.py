"""Names of official Mask2Former weights, old and new.

Two layouts are in circulation. In the older one the pixel decoder's parameters lie directly under
``sem_seg_head.`` and the learnable queries are called ``static_query``. The official upgrade goes
by the module version stored in the file's metadata, which plain dicts lack; then it inserts its
prefix a second time. The renaming here looks at the names alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

_HEAD = "sem_seg_head."
_PARTS = ("pixel_decoder.", "predictor.")


def upgrade_mask2former_keys(state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Rename the keys of the older layout; leave all others as they are.

    Below ``sem_seg_head.`` everything that is in neither ``pixel_decoder`` nor ``predictor`` moves
    to ``pixel_decoder``; ``static_query`` becomes ``query_feat``. Applying it twice changes nothing
    more.

    Args:
        state: parameter name to array or tensor, of a whole model.

    Returns:
        OrderedDict: the same values under the names of the newer layout, in the same order.

    Raises:
        ValueError: if two keys get the same name.
    """
    renamed: OrderedDict[str, Any] = OrderedDict()
    if hasattr(state, "_metadata"):  # module versions, which torch looks at when loading
        renamed._metadata = state._metadata  # type: ignore[attr-defined]
    for key, value in state.items():
        name = _upgrade(key)
        if name in renamed:
            raise ValueError(
                f"upgrade_mask2former_keys: expected one key for '{name}', got '{key}' as well"
            )
        renamed[name] = value
    return renamed


def _upgrade(key: str) -> str:
    if not key.startswith(_HEAD):
        return key
    rest = key.removeprefix(_HEAD)
    if not rest.startswith(_PARTS):
        rest = _PARTS[0] + rest
    elif rest.startswith("predictor."):
        parts = rest.split(".")
        rest = ".".join("query_feat" if part == "static_query" else part for part in parts)
    return _HEAD + rest
