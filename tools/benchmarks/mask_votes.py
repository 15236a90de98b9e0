"""Cases of mask transfer's votes: queries against a bank of references of 14 x 28 cells."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from amodal2.modeling.mask_transfer.correlation import BankSpectra
from tools.benchmarks.registry import Case, Peer

CONCEPTS, HEIGHT, WIDTH, FILTER = 128, 14, 28, 3


class Inputs(NamedTuple):
    """Concepts of queries and references, the filter, and the bank with its spectra."""

    queries: Tensor
    references: Tensor
    w2: Tensor
    bank: BankSpectra


def make_inputs(queries: int, references: int, device: torch.device, dtype: torch.dtype) -> Inputs:
    """Draw concepts, and let the bank make its spectra, which it does once for all queries."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(device, dtype)

    known = draw(references, CONCEPTS, HEIGHT, WIDTH)
    seen, w2 = draw(queries, CONCEPTS, HEIGHT, WIDTH), draw(CONCEPTS, FILTER, FILTER)
    bank = BankSpectra(known, w2)
    bank.votes(seen)
    return Inputs(seen, known, w2, bank)


def grouped_convolution(inputs: Inputs) -> Tensor:
    """Pad by the query's size, convolve every concept with the query, then with the filter."""
    padded = F.pad(inputs.references, (WIDTH, WIDTH, HEIGHT, HEIGHT))
    votes = [
        F.conv2d(
            F.conv2d(padded, query[:, None], groups=CONCEPTS), inputs.w2[None], padding=FILTER // 2
        )[:, 0]
        for query in inputs.queries
    ]
    return torch.stack(votes)


def _case(queries: int, references: int, floor: float | None) -> Case:
    votes = (2 * HEIGHT + 1) * (2 * WIDTH + 1)
    return Case(
        op="mask_votes",
        name=f"fwd_q{queries}_r{references}_v{CONCEPTS}_{HEIGHT}x{WIDTH}",
        make=lambda device, dtype: make_inputs(queries, references, device, dtype),
        ours=lambda inputs: inputs.bank.votes(inputs.queries),
        peers=[Peer("grouped conv2d", grouped_convolution, ("conv2d",))],
        flops=2.0 * queries * references * CONCEPTS * HEIGHT * WIDTH * votes,
        dtypes=(torch.float32,),
        floor=floor,
    )


def cases() -> list[Case]:
    """List the size of the project's goal, one query against 320 references, and a smaller one."""
    return [_case(1, 320, 25.0), _case(4, 32, None)]
