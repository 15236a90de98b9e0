"""Which data a training step sees: a pure function of a seed and a position.

The training stream is the endless sequence of positions 0, 1, 2, ...; every position has a dataset
index (a fresh permutation per epoch) and a sample seed from which all random choices of that sample
are drawn. Neither depends on the number of processes or workers, so training resumes by starting
the stream at ``iteration * batch size``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

_ORDER, _SAMPLE, _MIX = 0, 1, 2  # independent random streams of one seed


class TrainingStream:
    """The endless, seeded sequence of dataset indices and sample seeds."""

    def __init__(self, num_items: int, seed: int) -> None:
        """Store the parameters.

        Args:
            num_items: entries of the dataset, at least 1.
            seed: non-negative.

        Raises:
            ValueError: if a number is out of range.
        """
        if num_items < 1:
            raise ValueError(
                f"TrainingStream: expected at least one dataset entry, got {num_items}"
            )
        if seed < 0:
            raise ValueError(f"TrainingStream: expected a seed >= 0, got {seed}")
        self.num_items = num_items
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def index(self, position: int) -> int:
        """Return the dataset index at a position of the stream."""
        epoch, offset = divmod(position, self.num_items)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, _ORDER, epoch])
            self._order = rng.permutation(self.num_items)
            self._epoch = epoch
        return int(self._order[offset])

    def sample_seed(self, position: int) -> int:
        """Return the 63-bit seed of all random choices of the sample at a position."""
        state = np.random.SeedSequence([self.seed, _SAMPLE, position]).generate_state(1, np.uint64)
        return int(state[0] >> np.uint64(1))


class MixedStream:
    """Several datasets, drawn by weight at every position; indices count through all of them.

    Each dataset is in an order of its own, which goes on at the positions of the others: among as
    many positions as it has entries, from a multiple of that on, no entry comes twice.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        """Store the parameters.

        Args:
            sizes: entries of each dataset, at least 1.
            weights: of each dataset, at least 0 and not all 0; they need not sum to 1.
            seed: non-negative.

        Raises:
            ValueError: if a number is out of range, or there is not a weight for each dataset.
        """
        if len(weights) != len(sizes) or min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise ValueError(
                f"MixedStream: expected {len(sizes)} weights of at least 0, not all 0, got "
                f"{list(weights)}; set DATASETS.DATASET_RATIO"
            )
        self.seed = seed
        self._streams = [TrainingStream(size, seed) for size in sizes]
        self._starts = [0, *itertools.accumulate(sizes)]
        self._bounds = np.cumsum(weights) / sum(weights)

    def index(self, position: int) -> int:
        """Return the index in all datasets together at a position of the stream."""
        draw = np.random.default_rng([self.seed, _MIX, position]).random()
        chosen = int(np.searchsorted(self._bounds, draw, side="right"))
        return self._starts[chosen] + self._streams[chosen].index(position)

    def sample_seed(self, position: int) -> int:
        """Return the 63-bit seed of all random choices of the sample at a position."""
        return self._streams[0].sample_seed(position)


class PositionBatchSampler(Sampler[list[int]]):
    """Yields the stream positions of one rank's share of every batch, without end.

    Batch ``b`` of the whole job covers the positions ``[b * B, (b + 1) * B)``; rank r of W takes
    the r-th block of ``B / W`` of them.
    """

    def __init__(
        self, batch_size: int, *, start_batch: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        """Store and check the layout.

        Args:
            batch_size: samples per batch over all ranks, B.
            start_batch: first batch to yield.
            rank: this process, 0-based.
            world_size: number of processes, W.

        Raises:
            ValueError: if the batch does not divide over the ranks, or a number is out of range.
        """
        if batch_size < 1 or world_size < 1 or batch_size % world_size:
            raise ValueError(
                f"PositionBatchSampler: expected a batch size for {world_size} equal shares, "
                f"got {batch_size}; change SOLVER.IMS_PER_BATCH"
            )
        if not 0 <= rank < world_size or start_batch < 0:
            raise ValueError(
                f"PositionBatchSampler: expected 0 <= rank < {world_size} and start_batch >= 0, "
                f"got rank {rank}, start_batch {start_batch}"
            )
        self.batch_size = batch_size
        self.start_batch = start_batch
        self.block = batch_size // world_size
        self.rank = rank

    def __iter__(self) -> Iterator[list[int]]:
        """Yield lists of positions for ever."""
        batch = self.start_batch
        while True:
            first = batch * self.batch_size + self.rank * self.block
            yield list(range(first, first + self.block))
            batch += 1


def sample_frame_indices(
    rng: np.random.Generator, length: int, num_frames: int, frame_range: int
) -> list[int]:
    """Draw the frames of a sample around a random reference frame.

    The reference is uniform over the video and always part of the sample; the other frames are
    drawn without replacement from the window of ``frame_range`` frames on each side, cut at the
    ends of the video. A window that holds too few frames is widened on both sides, beyond a video
    end only on the other side. A video shorter than the sample gives all its frames, each once.

    Args:
        rng: source of randomness.
        length: frames of the video.
        num_frames: frames wanted.
        frame_range: half width of the window in frames; negative means the whole video.

    Returns:
        list[int]: ``min(num_frames, length)`` distinct frame numbers, rising.

    Raises:
        ValueError: if ``length`` or ``num_frames`` is below 1.
    """
    if length < 1 or num_frames < 1:
        raise ValueError(
            f"sample_frame_indices: expected at least one frame, got a video of {length} "
            f"and a sample of {num_frames}"
        )
    reference = int(rng.integers(length))
    if length <= num_frames:
        return list(range(length))
    reach = length if frame_range < 0 else frame_range
    low, high = max(0, reference - reach), min(length, reference + reach + 1)
    missing = num_frames - (high - low)
    if missing > 0:
        low = min(max(0, low - (missing + 1) // 2), length - num_frames)
        high = max(high, low + num_frames)
        low = high - num_frames
    others = np.delete(np.arange(low, high), reference - low)
    chosen = rng.choice(others, size=num_frames - 1, replace=False)
    return sorted([reference, *chosen.tolist()])
