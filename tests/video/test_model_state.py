"""Packed states of models."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from amodal2.video.model_state import pack_state, unpack_state


@dataclass
class Inner:
    """A part."""

    values: Tensor


@dataclass
class Outer:
    """A state with every kind of part."""

    inner: Inner | None = None
    parts: list[Inner] = field(default_factory=list)
    table: dict[int, tuple[str, float]] = field(default_factory=dict)
    memory: list[Tensor] = field(default_factory=list)
    done: bool = False


@dataclass
class Stranger:
    """Not a part of any state."""

    value: int = 0


def make_state() -> Outer:
    strided = torch.arange(12.0).view(3, 4).T
    with torch.inference_mode():
        half = torch.ones(2, dtype=torch.bfloat16)
    return Outer(Inner(strided), [Inner(half)], {3: ("a", 0.1)}, [torch.tensor(2**40)], True)


def test_pack_state_comes_back_equal_through_a_file():
    state, file = make_state(), io.BytesIO()
    torch.save(pack_state(state), file)
    file.seek(0)
    found = unpack_state(torch.load(file, weights_only=True), Outer(), torch.device("cpu"))
    assert isinstance(found, Outer)
    assert (found.table, found.done) == (state.table, True)
    pairs = [
        (found.inner.values, state.inner.values),
        (found.parts[0].values, state.parts[0].values),
        (found.memory[0], state.memory[0]),
    ]
    for new, old in pairs:
        assert torch.equal(new, old)
        assert (new.dtype, new.stride()) == (old.dtype, old.stride())


def test_pack_state_is_a_copy():
    state = make_state()
    packed = pack_state(state)
    state.memory[0].zero_()
    found = unpack_state(packed, Outer(), torch.device("cpu"))
    assert found.memory[0] == 2**40


def test_unpack_state_brings_tensors_to_the_device():
    found = unpack_state(pack_state(make_state()), Outer(), torch.device("meta"))
    assert found.inner.values.device.type == "meta"


def test_pack_state_other_type_is_refused():
    with pytest.raises(TypeError, match="got BytesIO; this model's state cannot be saved"):
        pack_state({"file": io.BytesIO()})


def test_unpack_state_unknown_class_is_refused():
    with pytest.raises(ValueError, match=r"classes .*Inner.*Outer.*, got .Stranger"):
        unpack_state(pack_state(Stranger()), Outer(), torch.device("cpu"))
