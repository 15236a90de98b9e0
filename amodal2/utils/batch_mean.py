"""Numbers of a batch that is spread over processes and over parts, as losses are divided by.

A model that divides a loss by a number of its batch (of objects, of class weights) takes the mean
of that number over everything that belongs to the batch: its share of the mean loss is then what
it would be in one pass over the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


class PartMeans:
    """Means over the parts of a batch that pass a model one after another.

    The parts are counted first, all of them, and then computed in the same order::

        means = PartMeans()
        for part in parts:
            with means.counting():
                model(part)
        means.close()
        for part in parts:
            with means.given():
                loss = model(part) / len(parts)

    Attributes:
        counts: True while a part is counted: results other than :func:`mean_over_batch`'s are not
            used then, so a model may leave out what they do not depend on.
    """

    def __init__(self) -> None:
        self.counts = False
        self._counted: list[list[Tensor]] = []
        self._means: Tensor | None = None
        self._taken = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Note what :func:`mean_over_batch` is asked for inside, one part at a time."""
        self._counted.append([])
        self.counts = True
        with self._in_charge():
            yield
        self.counts = False

    def close(self) -> None:
        """Average what was counted, over the parts and the processes.

        Raises:
            RuntimeError: if the parts asked for different numbers of means.
        """
        lengths = {len(values) for values in self._counted}
        if len(lengths) > 1:
            raise RuntimeError(
                "PartMeans: expected the same number of means in every part of the batch, got "
                f"{[len(values) for values in self._counted]}; train with SOLVER.ACCUMULATE 1"
            )
        if lengths == {0}:
            return
        self._means = _mean_over_ranks(
            torch.stack([torch.stack(values) for values in self._counted]).mean(dim=0)
        )

    @contextmanager
    def given(self) -> Iterator[None]:
        """Answer :func:`mean_over_batch` with the means, in the order in which it is asked."""
        self._taken = 0
        with self._in_charge():
            yield

    def answer(self, value: Tensor) -> Tensor:
        """Note a part's number, or return the mean in its place.

        Args:
            value (Tensor[]): the part's number.

        Returns:
            Tensor[]: the number itself while counting.

        Raises:
            RuntimeError: if more is asked for than was counted.
        """
        if self.counts:
            self._counted[-1].append(value)
            return value
        if self._means is None or self._taken >= len(self._means):
            raise RuntimeError(
                "PartMeans: expected as many means as were counted, got a demand for more; train "
                "with SOLVER.ACCUMULATE 1"
            )
        self._taken += 1
        return self._means[self._taken - 1].to(value.dtype)

    @contextmanager
    def _in_charge(self) -> Iterator[None]:
        global _in_charge
        before, _in_charge = _in_charge, self
        try:
            yield
        finally:
            _in_charge = before


_in_charge: PartMeans | None = None


def mean_over_batch(value: Tensor) -> Tensor:
    """Average a number over all processes and all parts of their batches, without gradient.

    Args:
        value (Tensor[]): floating-point number of this process, or of the part of its batch that
            passes the model now.

    Returns:
        Tensor[]: the mean; the number itself where there is one process and one part.
    """
    value = value.detach().clone()
    return _mean_over_ranks(value) if _in_charge is None else _in_charge.answer(value)


def only_counting() -> bool:
    """Tell whether nothing but :func:`mean_over_batch` counts now, see :class:`PartMeans`."""
    return _in_charge is not None and _in_charge.counts


def _mean_over_ranks(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values
