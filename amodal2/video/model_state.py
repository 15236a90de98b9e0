"""A model's state between two clips, in a form that ``torch.load(weights_only=True)`` reads.

Containers become lists that begin with their kind. Dataclasses are stored by the name of the class
and found again among the classes that the model's first state and its type hints name, so that
nothing is imported because a file says so.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor


def pack_state(value: Any) -> Any:
    """Turn a state into tensors, numbers, text and lists.

    Args:
        value: None, bool, int, float, str, Tensor, or lists, tuples, dictionaries and dataclasses
            of such values.

    Returns:
        The packed state; its tensors are copies in host memory.

    Raises:
        TypeError: if there is a value of another type.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if type(value) in (list, tuple):
        return [type(value).__name__, *map(pack_state, value)]
    if type(value) is dict:
        return ["dict", *([pack_state(key), pack_state(item)] for key, item in value.items())]
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: pack_state(getattr(value, field.name)) for field in fields(value)}
        return ["dataclass", type(value).__qualname__, parts]
    raise TypeError(
        "pack_state: expected a state of tensors, numbers, text, lists, tuples, dictionaries and "
        f"dataclasses, got {type(value).__name__}; this model's state cannot be saved"
    )


def unpack_state(packed: Any, example: Any, device: torch.device) -> Any:
    """Undo :func:`pack_state`.

    Args:
        packed: what it returned.
        example: a state of the same model, to find its dataclasses.
        device (torch.device): where the tensors go.

    Returns:
        The state.

    Raises:
        ValueError: if it holds a dataclass that the example does not lead to.
    """
    known: dict[str, type] = {}
    _collect(type(example), known)
    return _unpack(packed, known, device)


def _unpack(packed: Any, known: dict[str, type], device: torch.device) -> Any:
    if isinstance(packed, Tensor):
        return packed.to(device, copy=True)
    if not isinstance(packed, list):
        return packed
    kind, *parts = packed
    if kind == "dataclass":
        name, values = parts
        if name not in known:
            raise ValueError(
                f"unpack_state: expected one of the classes {sorted(known)}, got {name!r}; the "
                "state is that of another model"
            )
        return known[name](**{key: _unpack(item, known, device) for key, item in values.items()})
    items = [_unpack(part, known, device) for part in parts if kind != "dict"]
    if kind == "dict":
        return {_unpack(k, known, device): _unpack(v, known, device) for k, v in parts}
    return tuple(items) if kind == "tuple" else items


def _collect(hint: Any, known: dict[str, type]) -> None:
    """Gather the dataclasses that a type hint leads to."""
    if isinstance(hint, type) and is_dataclass(hint):
        if hint.__qualname__ not in known:
            known[hint.__qualname__] = hint
            for inner in get_type_hints(hint).values():
                _collect(inner, known)
    for inner in get_args(hint):
        _collect(inner, known)
