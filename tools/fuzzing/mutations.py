"""Strategies that damage a valid document: in its structure, or in its text."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Json = Any
Change = tuple[list[int], str, Any]
"""Steps to a place, what is done there, and with what."""

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 100, -100, 0.5, -0.5, 1.5, 1e-9, float("nan"), float("inf")),
    *(float("-inf"), 1e10, 2.5e9, 1e15, 1e308, -1e308, 2**31, 2**32, 2**63, -(2**63), 10**30),
    *(10**400, -(10**400), 65536, 46341),
)
TEXTS = ("", "0", "1", "é", "\ud800", "\x00", "/", "../..", "a" * 300, "~~~~", "P2P2P2", "1e999")
COUNTS = ("", "0", "l1", "o" * 20, "0`0", "`1", "00000l1", "\\1O", "lQ", "o" * 6 + "0", "1" * 200)
FAR = 1e9
OTHERS: tuple[Json, ...] = (
    *(None, True, False, [], {}, [None], [[]], [[[]]], [{}], {"": None}, {"size": [6, 10]}),
    *([[0, 0, FAR, 0, FAR, FAR]], [[-FAR, -FAR, FAR, -FAR, FAR, FAR]], [[0, 0, 1, 1]], [""]),
    *([[1e300, 0, 5, 0, 5, 5]], [[10**400, 0, 5, 0, 5, 5]], [[float("nan")] * 6], [1, 2, 3, 4]),
    *([-1, -1, -5, -5], [0, 0, 1e200, 1e200], [0, 0, 0, 0], [5, 5, 1, 10**400], [None, 0, 1, 1]),
    *({"size": [6, 10], "counts": [60]}, {"size": [6, 10], "counts": [0, 60]}),
    *({"size": [6, 10], "counts": [10, 0, 50]}, {"size": [6, 10], "counts": [9, 3, 0, 3, 45]}),
    *({"size": [6, 10], "counts": [True, 59]}, {"size": [6, 10], "counts": [-1, 61]}),
    *({"size": [6, 10], "counts": [2**32, 60]}, {"size": [6, 10], "counts": [0.5, 59.5]}),
    *({"size": [10, 6], "counts": [60]}, {"size": [6.0, 10], "counts": [60]}),
    *({"size": [6, 10], "counts": [10**400]}, {"size": [], "counts": [60]}, {"counts": "l1"}),
)
MAX_DEPTH = 9


def changes() -> st.SearchStrategy[list[Change]]:
    """Draw one to three changes."""
    value = st.one_of(
        st.sampled_from(NUMBERS),
        st.sampled_from(TEXTS),
        st.sampled_from(OTHERS),
        st.sampled_from(COUNTS).map(lambda counts: {"size": [6, 10], "counts": counts}),
        st.integers(),
        st.floats(),
        st.text(max_size=6),
    )
    path = st.lists(st.integers(0, 999), min_size=MAX_DEPTH, max_size=MAX_DEPTH)
    kinds = [
        st.tuples(path, st.just("replace"), value),
        st.tuples(path, st.just("delete"), st.none()),
        st.tuples(path, st.just("repeat"), st.integers(1, 3)),
        st.tuples(path, st.just("add"), st.sampled_from(NUMBERS)),
        st.tuples(path, st.just("times"), st.sampled_from(NUMBERS)),
        st.tuples(path, st.just("text"), st.tuples(st.integers(0, 99), st.text(max_size=2))),
        st.tuples(path, st.just("cut"), st.integers(0, 99)),
        st.tuples(path, st.just("wrap"), st.none()),
        st.tuples(path, st.just("copy"), path),
        st.tuples(path, st.just("swap"), path),
    ]
    return st.lists(st.one_of(kinds), min_size=1, max_size=3)


@dataclass
class Drawn:
    """Content to try, and what was done to a valid document to get it."""

    content: Any
    changes: list[Any]


def mutated(make: Callable[[], Json]) -> st.SearchStrategy[Drawn]:
    """Draw a damaged copy of a document.

    Args:
        make: returns a new valid document.
    """

    def apply(drawn: list[Change]) -> Drawn:
        holder = [make()]
        for path, kind, value in drawn:
            _change(holder, path, kind, value)
        return Drawn(holder[0], drawn)

    return changes().map(apply)


def damaged_text(make: Callable[[], Json]) -> st.SearchStrategy[Drawn]:
    """Draw the JSON of a valid document with some bytes cut out, put in or nested deeply.

    Args:
        make: returns a new valid document.
    """

    def apply(drawn: list[tuple[int, int, bytes, int]]) -> Drawn:
        text = json.dumps(make()).encode()
        for start, length, new, times in drawn:
            at = start % (len(text) + 1)
            text = text[:at] + new * times + text[at + length :]
        return Drawn(text, drawn)

    part = st.one_of(st.binary(max_size=4), st.sampled_from([b"[", b'{"a":', b"1", b"\xff"]))
    times = st.sampled_from([1, 1, 1, 5000, 100_000])
    cut = st.tuples(st.integers(0, 10**6), st.integers(0, 40), part, times)
    return st.lists(cut, min_size=1, max_size=3).map(apply)


def _keys(node: Json) -> list[Any]:
    return list(node) if isinstance(node, dict) else list(range(len(node)))


def _find(holder: list[Json], path: list[int]) -> tuple[Json, Any]:
    """Follow a path; return the container that it ends in and the key there.

    Each step goes on into the chosen child with odds of 7 to 1, if that has children.
    """
    node, key = holder, 0
    for step in path:
        child = node[key]
        if not isinstance(child, list | dict) or not child or step % 8 == 0:
            break
        node, key = child, _keys(child)[step // 8 % len(child)]
    return node, key


def _change(holder: list[Json], path: list[int], kind: str, value: Any) -> None:
    node, key = _find(holder, path)
    old = node[key]
    if kind == "delete" and node is not holder:
        del node[key]
    elif kind == "repeat" and isinstance(node, list) and node is not holder:
        node[key:key] = [copy.deepcopy(old) for _ in range(value)]
    elif kind == "swap":
        other, place = _find(holder, value)
        if node is not holder and other is not holder:
            node[key], other[place] = json.loads(json.dumps([other[place], old]))
    else:
        node[key] = _changed(old, kind, value, holder)


def _changed(old: Json, kind: str, value: Any, holder: list[Json]) -> Json:
    if kind == "replace":
        return copy.deepcopy(value)  # later changes may go into it
    if kind == "wrap":
        return [old]
    if kind == "copy":
        node, key = _find(holder, value)
        return json.loads(json.dumps(node[key]))
    number = isinstance(old, int | float)
    if kind in ("add", "times") and number:
        try:
            return old + value if kind == "add" else old * value
        except OverflowError:
            return float("inf")
    if kind == "text" and isinstance(old, str):
        at = value[0] % (len(old) + 1)
        return old[:at] + value[1] + old[at + 1 :]
    if kind == "cut" and isinstance(old, str | list):
        return old[: value % (len(old) + 1)]
    return str(old) if kind == "text" else old
