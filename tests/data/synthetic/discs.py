"""Small hand-made scenes of discs before a plain background."""

from __future__ import annotations

import numpy as np

from amodal2.data.synthetic.scene import Actor, Scene, Trajectory
from amodal2.data.synthetic.sprite import Canvas
from amodal2.data.synthetic.warp import Rigid


class Plain:
    """A grey background that moves by a hundredth of the width per frame."""

    haze = np.zeros(3, np.float32)

    def canvas(self, t, height, width):
        return np.full((height, width, 3), 0.5, np.float32)

    def shift(self, t):
        return 0.01 * t, 0.0

    def finish(self, picture, t):
        return picture


def disc(x, y, radius, depth, category_id=1, colour=(1.0, 0.0, 0.0), frames=1):
    """A disc in image widths; ``x`` and ``depth`` may be lists of length ``frames``."""
    canvas = Canvas((-1.1, -1.1, 1.1, 1.1), 60)
    canvas.paint(canvas.disc((0.0, 0.0), 1.0), colour)
    one = np.ones(frames)
    path = Trajectory(one * x, one * y, one * radius, one, 0 * one, one * depth)
    return Actor(canvas.finish(), Rigid(), path, category_id)


def scene(*actors, frames=1):
    return Scene(frames, list(actors), Plain(), {1: "disc"})
