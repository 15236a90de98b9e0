"""What a report keeps of every row so that its numbers can be computed again for other scenes.

A scene is a video, or an image. Nothing is matched again: a sampler holds the outcome of every
scene and joins the outcomes with weights. Dimensions: R resamples, S scenes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Sampler(Protocol):
    """One row of a report.

    Attributes:
        scenes: ids of the S scenes, ascending.
    """

    scenes: list[int]

    def sample(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute all metrics of the row again, each scene counted as often as its weight says.

        Args:
            weights (ndarray[R, S]): numbers of times, integers.

        Returns:
            dict: metric name -> ndarray[R]; fractions in percent, numbers as they are, NaN where
            undefined.
        """


def draw_weights(scenes: int, resamples: int, seed: int) -> np.ndarray:
    """Draw scenes with replacement, as many as there are.

    Args:
        scenes: S.
        resamples: R.
        seed: the same one gives the same weights.

    Returns:
        ndarray[R, S]: how often each scene was drawn.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(scenes, np.full(scenes, 1 / scenes), size=resamples)
