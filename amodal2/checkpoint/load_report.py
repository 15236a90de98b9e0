"""What became of the entries of a weight file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from amodal2.utils.errors import CheckpointError

_SHOWN = 12  # lines or names per list in a report
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_CLASS_LAYERS = {
    "class_embed.weight": "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
    "class_head.fc.weight": "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
    "box_predictor.cls_score.weight": "MODEL.ROI_HEADS.NUM_CLASSES",
}
"""End of the name of a class layer -> the key that decides its size."""


@dataclass
class LoadReport:
    """How the keys of a weight file fitted a model.

    Attributes:
        missing (list[str]): parameters of the model that the file lacks; they keep their values.
        unexpected (list[str]): entries of the file that the model does not know.
        mismatched (list[tuple]): name, shape in the file, shape in the model; skipped.
        recognised (str): what the file holds, judged by its names and shapes; "" if unknown.
        renamed (dict[str, str]): name in the file to name in the model, where they differ.
        dropped (dict[str, str]): entries of the file that no model needs, with the reason.
        copied (dict[str, str]): parameter of the model to the one whose values it starts from.
        compared (bool): False if there was no model, so that the first three lists mean nothing.
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    recognised: str = ""
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    compared: bool = True

    @property
    def exact(self) -> bool:
        """True if every key fitted."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def classes(self) -> tuple[int, int] | None:
        """Object classes of the file and of the model, if they differ."""
        for name, old, new in self.mismatched:
            if name.endswith(tuple(_CLASS_LAYERS)):
                return old[0] - 1, new[0] - 1
        return None

    @property
    def _class_key(self) -> str:
        """The config key that decides the number of classes."""
        return next(
            key
            for name, *_ in self.mismatched
            for end, key in _CLASS_LAYERS.items()
            if name.endswith(end)
        )

    def require_exact(self, source: str) -> None:
        """Stop unless every key fitted.

        Args:
            source: file name for the message.

        Raises:
            CheckpointError: listing the keys that did not.
        """
        if not self.exact:
            raise CheckpointError(
                f"LoadReport: expected weights that fit the model, got {source}: {self}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return all lists in full, as plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Return one paragraph per list; all renames, but at most a dozen names of each other."""
        shapes = [f"{name} {list(old)} -> {list(new)}" for name, old, new in self.mismatched]
        parts = [
            f"recognised as {self.recognised}" if self.recognised else "",
            _pairs("renamed", self.renamed),
            _pairs("copied (from the right)", self.copied),
            _listing("left out", _patterns(f"{k} ({why})" for k, why in self.dropped.items())),
            _listing("missing from the file", _patterns(self.missing)),
            _listing("not in the model", _patterns(self.unexpected)),
            _listing("of another shape", [(text, 1) for text in shapes]),
            self._class_hint(),
            "all keys match" if self.exact and self.compared else "",
        ]
        return "\n  ".join(part for part in parts if part)

    def _class_hint(self) -> str:
        if self.classes is None:
            return ""
        return (
            f"the file knows {self.classes[0]} classes, the model {self.classes[1]} "
            f"({self._class_key}): the class layers keep their initial values"
        )


def _patterns(names: Iterable[str]) -> list[tuple[str, int]]:
    """Join names that differ in the numbers of layers only; each with the number of names."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_NUMBER.sub("*", name), []).append(name)
    return [
        (f"{pattern} ({len(group)}x)" if len(group) > 1 else group[0], len(group))
        for pattern, group in groups.items()
    ]


def _listing(title: str, patterns: list[tuple[str, int]]) -> str:
    if not patterns:
        return ""
    total = sum(count for _, count in patterns)
    rest = sum(count for _, count in patterns[_SHOWN:])
    more = f", and {rest} more" if rest else ""
    return f"{total} {title}: " + ", ".join(text for text, _ in patterns[:_SHOWN]) + more


def _pairs(title: str, pairs: Mapping[str, str]) -> str:
    """List every pair, those that differ in equal numbers of layers only in one line."""
    if not pairs:
        return ""
    lines: dict[tuple[str, str], int] = {}
    for old, new in pairs.items():
        pair = old, new
        if _NUMBER.findall(f".{old}") == _NUMBER.findall(f".{new}"):
            pair = _NUMBER.sub("*", old), _NUMBER.sub("*", new)
        lines[pair] = lines.get(pair, 0) + 1
    text = [
        f"\n    {old} -> {new}" + (f" ({count}x)" if count > 1 else "")
        for (old, new), count in lines.items()
    ]
    return f"{len(pairs)} {title}:" + "".join(text)
