"""How annotators say which of an object's two outlines a shape is."""

from __future__ import annotations

import re

KINDS = ("visible", "amodal")
"""Words that mark a shape as the visible part or as the whole object."""

_SUFFIX = re.compile(r"^(?P<name>.*?)[\s:/_.-]+(?P<kind>visible|amodal)$", re.IGNORECASE)


def split_label(label: str, hint: str = "") -> tuple[str, str | None]:
    """Split the name of a category from the kind of mask.

    The kind is the last word of the label (``"car amodal"``, ``"car_amodal"``, ``"car:amodal"``)
    or a word of the hint.

    Args:
        label: label of a shape.
        hint: further text of the shape (description, attribute, flags).

    Returns:
        tuple: name of the category, and "visible", "amodal" or None if neither is said.
    """
    match = _SUFFIX.match(label.strip())
    if match:
        return match["name"].strip(), match["kind"].lower()
    words = re.findall(r"[a-z]+", hint.lower())
    found = [kind for kind in KINDS if kind in words]
    return label.strip(), found[0] if len(found) == 1 else None
