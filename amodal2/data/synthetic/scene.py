"""What a synthetic video is made of: actors in strict depth order before a backdrop.

A scene is plain data; ``render.py`` turns it into frames and masks. A new scene builds actors of
its own and gives a backdrop; nothing else needs to change. Lengths are in image widths, so a scene
can be rendered at any size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.noise import FloatImage
from amodal2.data.synthetic.sprite import Sprite
from amodal2.data.synthetic.warp import Deformation


@dataclass
class Trajectory:
    """Where an actor is, per frame; every array is float64 [T].

    Attributes:
        x (ndarray): horizontal place of the plane's origin, in image widths from the left border.
        y (ndarray): vertical place, in image widths from the upper border.
        scale (ndarray): image widths per unit of the sprite.
        facing (ndarray): horizontal foreshortening, -1..1 and never 0; negative mirrors.
        pitch (ndarray): rotation in radians, clockwise on the screen.
        depth (ndarray): 0 is nearest to the camera, 1 farthest.
    """

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    facing: npt.NDArray[np.float64]
    pitch: npt.NDArray[np.float64]
    depth: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Appendage:
    """A small sprite that beats about a root on the body, as a side fin.

    Attributes:
        sprite (Sprite): its picture, root at (0, 0).
        root (tuple[float, float]): material point of the body.
        rest (float): angle in radians at rest.
        swing (float): amplitude in radians.
        frequency (float): cycles per frame.
        phase (float): in radians at frame 0.
    """

    sprite: Sprite
    root: tuple[float, float]
    rest: float
    swing: float
    frequency: float
    phase: float

    def angle(self, t: int) -> float:
        """Return the angle in radians at frame ``t``."""
        turn = 2.0 * np.pi * self.frequency * t + self.phase
        return float(self.rest + self.swing * np.sin(turn))


@dataclass
class Actor:
    """One thing in the scene.

    Attributes:
        sprite (Sprite): its picture.
        deformation (Deformation): how it bends.
        trajectory (Trajectory): how it moves.
        category_id (int | None): category of an annotated object; None for scenery.
        appendages (tuple[Appendage, ...]): parts drawn over the sprite.
    """

    sprite: Sprite
    deformation: Deformation
    trajectory: Trajectory
    category_id: int | None = None
    appendages: tuple[Appendage, ...] = ()


class Backdrop(Protocol):
    """What lies behind all actors, and the light that falls on them."""

    haze: FloatImage
    """float32 [3]: RGB 0..1 that far actors fade to."""

    def canvas(self, t: int, height: int, width: int) -> FloatImage:
        """Return the background (float32 [height, width, 3], RGB 0..1) at frame ``t``."""
        ...

    def shift(self, t: int) -> tuple[float, float]:
        """Return the background's displacement (x, y) at frame ``t`` in image widths."""
        ...

    def finish(self, picture: FloatImage, t: int) -> FloatImage:
        """Light the composed picture (float32 [H, W, 3]) of frame ``t``."""
        ...


@dataclass
class Scene:
    """A video before rendering.

    Attributes:
        length (int): frames.
        actors (list[Actor]): in any order; their depth decides.
        backdrop (Backdrop): background and light.
        categories (dict[int, str]): category id to name.
    """

    length: int
    actors: list[Actor]
    backdrop: Backdrop
    categories: dict[int, str] = field(default_factory=dict)

    def objects(self) -> list[int]:
        """Return the indices of the annotated actors."""
        return [i for i, actor in enumerate(self.actors) if actor.category_id is not None]

    @property
    def category_ids(self) -> list[int]:
        """Categories of the annotated actors."""
        return [actor.category_id for actor in self.actors if actor.category_id is not None]

    def order(self, t: int) -> list[int]:
        """Return the indices of all actors at frame ``t``, nearest first."""
        depth = [float(actor.trajectory.depth[t]) for actor in self.actors]
        return sorted(range(len(depth)), key=lambda i: (depth[i], i))


def check_size(
    function: str, frames: int, size: tuple[int, int], least: int, aspects: tuple[float, float]
) -> None:
    """Check what a builder of scenes is asked for.

    Args:
        function (str): its name, for the message.
        frames (int): number of frames.
        size (tuple[int, int]): height and width.
        least (int): smallest side that it can fill.
        aspects (tuple[float, float]): range of height / width.

    Raises:
        ValueError: if there is no frame or the picture is too small or too oblong.
    """
    if frames < 1:
        raise ValueError(f"{function}: expected frames >= 1, got {frames}")
    height, width = size
    if min(height, width) < least or not aspects[0] <= height / width <= aspects[1]:
        raise ValueError(
            f"{function}: expected at least {least} pixels per side and height / width in "
            f"{aspects[0]}..{aspects[1]}, got {width}x{height}"
        )


def check_flow_frame(function: str, t: int, length: int) -> None:
    """Refuse the flow of the last frame, which goes nowhere.

    Raises:
        ValueError: if ``t`` is not before the last of ``length`` frames.
    """
    if t + 1 >= length:
        raise ValueError(
            f"{function}: expected a frame before the last for flow, got {t} of {length}"
        )
