"""Who swims where: paths that make fish meet, hide, enter late, leave and come back.

Paths are drawn at random with a purpose per fish, judged on coarse masks, and redrawn until
the video hides enough and not too much (``Choreographer``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from amodal2.data.synthetic.motion import Swimmer, swim
from amodal2.data.synthetic.render import Patch, draw_actor, object_masks
from amodal2.data.synthetic.scene import Actor, Scene, Trajectory
from amodal2.data.synthetic.species import Species
from amodal2.data.synthetic.statistics import has_vanished

_COARSE_WIDTH = 120
_STEPS = 60
_LEAST_SEEN = 0.0045
_LEAST_PRESENCE = 0.6
_KINDS = {"meet": 0.16, "visit": 0.06, "enter": 0.12, "return": 0.12, "roam": 0.54}


@dataclass(frozen=True)
class Crowding:
    """How much the videos of a dataset hide.

    Attributes:
        share (tuple[float, float, float]): least, mean and largest share of object-frames more than
            a fifth hidden.
        vanishing (tuple[float, ...]): chances that 0, 1, 2, ... fish vanish in the middle of a
            video.
    """

    share: tuple[float, float, float]
    vanishing: tuple[float, ...]


USUAL = Crowding((0.2, 0.31, 0.44), (0.08, 0.46, 0.34, 0.12))
"""Of the aquarium."""

DENSE = Crowding((0.39, 0.5, 0.63), (0.04, 0.26, 0.4, 0.3))
"""Of the aquarium in which half of the fish are in each other's way."""


@dataclass(frozen=True)
class Role:
    """A fish to be placed.

    Attributes:
        species (Species): its kind.
        length (float): body length in image widths.
        depth (float): 0..1, strictly ordered among all actors.
    """

    species: Species
    length: float
    depth: float


@dataclass(frozen=True)
class Spot:
    """A piece of scenery that fish can hide behind; lengths in image widths.

    Attributes:
        x (float): its middle.
        y (float): its middle.
        width (float): its opaque part.
        height (float): its opaque part.
        depth (float): 0..1.
    """

    x: float
    y: float
    width: float
    height: float
    depth: float


@dataclass(frozen=True)
class Hiding:
    """How much a video hides, counted as in the dataset's statistics.

    Attributes:
        share (float): of object-frames, those more than a fifth hidden.
        vanished (bool [N]): tracks fully hidden for three frames or more and then seen again.
        seen (float64 [N]): largest visible area in image widths².
        presence (float64 [N]): share of frames in which the object is visible.
        hidden (float64 [N]): share of its frames in which it is more than a fifth hidden.
    """

    share: float
    vanished: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.float64]
    presence: npt.NDArray[np.float64]
    hidden: npt.NDArray[np.float64]


def measure_hiding(
    visible: npt.NDArray[np.float64], amodal: npt.NDArray[np.float64], run: int
) -> Hiding:
    """Summarise areas per object and frame.

    Args:
        visible (float64 [N, T]): visible areas.
        amodal (float64 [N, T]): amodal areas.
        run (int): number of samples that count as long hidden.

    Returns:
        Hiding: the summary.
    """
    shown = np.maximum.accumulate(visible > 0, axis=1) & (amodal > 0)
    covered = (visible < 0.8 * amodal) & shown
    return Hiding(
        float(covered.sum() / max(shown.sum(), 1)),
        np.array([has_vanished(v > 0, a > 0, run) for v, a in zip(visible, amodal, strict=True)]),
        visible.max(axis=1),
        (visible > 0).mean(axis=1),
        covered.sum(axis=1) / np.maximum(shown.sum(axis=1), 1),
    )


class Judge:
    """Measures paths on coarse masks; draws again only what has changed since the last time."""

    def __init__(self, scene: Scene, aspect: float) -> None:
        """Draw the scenery.

        Args:
            scene (Scene): scene whose annotated actors have no final path yet.
            aspect (float): height over width of the picture.
        """
        self._scene = scene
        self._size = (max(8, round(_COARSE_WIDTH * aspect)), _COARSE_WIDTH)
        self._times = list(range(0, scene.length, 2))
        self._patches = [
            [] if actor.category_id is not None else self._draw(actor) for actor in scene.actors
        ]
        self._paths: dict[int, Trajectory] = {}

    def _draw(self, actor: Actor) -> list[Patch | None]:
        """Draw an actor alone at every sampled frame."""
        return [draw_actor(actor, t, *self._size) for t in self._times]

    def measure(self, paths: Sequence[Trajectory]) -> Hiding:
        """Measure the scene with these paths of its annotated actors, in their order."""
        objects = self._scene.objects()
        actors = list(self._scene.actors)
        for index, path in zip(objects, paths, strict=True):
            actors[index] = replace(actors[index], trajectory=path, appendages=())
            if self._paths.get(index) is not path:
                self._patches[index] = self._draw(actors[index])
                self._paths[index] = path
        scene = replace(self._scene, actors=actors)
        areas = np.zeros((2, len(objects), len(self._times)))
        for column, t in enumerate(self._times):
            patches = [drawn[column] for drawn in self._patches]
            visible, amodal, _ = object_masks(scene, scene.order(t), patches, *self._size)
            areas[0, :, column] = visible.sum(axis=(1, 2))
            areas[1, :, column] = amodal.sum(axis=(1, 2))
        areas /= _COARSE_WIDTH**2
        return measure_hiding(areas[0], areas[1], 2)


@dataclass(frozen=True)
class _Goal:
    """What a video shall hide: share of object-frames, and who vanishes behind what."""

    share: float
    hidden: dict[int, Spot | None]

    def penalty(self, hiding: Hiding) -> float:
        """Return how far a candidate is from the goal; 0 is perfect."""
        penalty = max(0.0, abs(hiding.share - self.share) - 0.03)
        penalty += 0.15 * abs(int(hiding.vanished.sum()) - len(self.hidden))
        penalty += float((_LEAST_SEEN - hiding.seen).clip(0).sum()) * 200.0
        penalty += float((_LEAST_PRESENCE - hiding.presence).clip(0).sum())
        return penalty


class Choreographer:
    """Draws paths for the fish of one video."""

    def __init__(
        self,
        rng: np.random.Generator,
        roles: Sequence[Role],
        spots: Sequence[Spot],
        frames: int,
        aspect: float,
        crowding: Crowding = USUAL,
    ) -> None:
        """Keep what all paths have in common.

        Args:
            rng (np.random.Generator): source of all choices.
            roles (Sequence[Role]): fish to place.
            spots (Sequence[Spot]): scenery to hide behind.
            frames (int): number of frames.
            aspect (float): height over width of the picture.
            crowding (Crowding): how much the video shall hide.
        """
        self._rng, self._roles, self._spots = rng, roles, spots
        self._frames, self._aspect, self._crowding = frames, aspect, crowding

    def choreograph(self, scene: Scene) -> list[Trajectory]:
        """Choose the paths of all fish.

        Starts from paths at random and then, step by step, draws a new path for one fish that
        stands in the way of the goal; a step that does not help is taken back.

        Args:
            scene (Scene): the scene with scenery and, in the order of the roles, the fish.

        Returns:
            list[Trajectory]: one per role.
        """
        rng = self._rng
        judge = Judge(scene, self._aspect)
        least_share, mean_share, largest_share = self._crowding.share
        chances = self._crowding.vanishing
        count = int(rng.choice(len(chances), p=chances))
        share = float(np.clip(rng.normal(mean_share, 0.05), least_share, largest_share))
        goal = _Goal(share, self._choose_hidden(count))
        best = self._start(goal)
        hiding = judge.measure(best)
        least = goal.penalty(hiding)
        for _ in range(_STEPS):
            if least < 1e-9:
                break
            index, kind = self._next(hiding, goal)
            paths = list(best)
            others = {i: path for i, path in enumerate(best) if i != index}
            paths[index] = self._path(index, kind, others, goal)
            measured = judge.measure(paths)
            penalty = goal.penalty(measured)
            if penalty <= least:
                best, least, hiding = paths, penalty, measured
        return best

    def _start(self, goal: _Goal) -> list[Trajectory]:
        """Draw all paths, large fish first."""
        paths: dict[int, Trajectory] = {}
        sizes = [role.length * role.species.half_height for role in self._roles]
        for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
            kind = "hide"
            if index not in goal.hidden:
                kind = str(self._rng.choice(list(_KINDS), p=list(_KINDS.values())))
            paths[index] = self._path(index, kind, paths, goal)
        return [paths[index] for index in range(len(self._roles))]

    def _next(self, hiding: Hiding, goal: _Goal) -> tuple[int, str]:
        """Choose the fish to draw again and the purpose of its new path."""
        rng = self._rng
        free = [i for i in range(len(self._roles)) if i not in goal.hidden]
        poor = np.flatnonzero((hiding.seen < _LEAST_SEEN) | (hiding.presence < _LEAST_PRESENCE))
        if poor.size and rng.random() < 0.7:
            index = int(rng.choice(poor))
            return index, "hide" if index in goal.hidden and rng.random() < 0.5 else "roam"
        missing = [i for i in goal.hidden if not hiding.vanished[i]]
        if missing and rng.random() < 0.5:
            return missing[int(rng.integers(len(missing)))], "hide"
        extra = [i for i in free if hiding.vanished[i]]
        if extra and not missing:
            return extra[0], "roam"
        if not free:
            return int(rng.integers(len(self._roles))), "hide"
        weight = hiding.hidden[free] if hiding.share > goal.share else 1 - hiding.hidden[free]
        weight = weight + 0.05
        index = free[int(rng.choice(len(free), p=weight / weight.sum()))]
        return index, "roam" if hiding.share > goal.share else str(rng.choice(["meet", "visit"]))

    def _path(
        self, index: int, kind: str, others: dict[int, Trajectory], goal: _Goal
    ) -> Trajectory:
        """Draw a path with a purpose: hide, meet, visit, enter, return or roam."""
        rng, role = self._rng, self._roles[index]
        swimmer = _draw_swimmer(rng, role)
        if kind == "hide":
            return self._hide(swimmer, role, others, goal.hidden.get(index))
        if kind == "enter":
            return _enter(rng, swimmer, self._frames, self._aspect)
        if kind == "return":
            return _leave_and_return(rng, swimmer, self._frames, self._aspect)
        if kind == "meet" and others:
            other = others[int(rng.choice(sorted(others)))]
            return _meet(rng, swimmer, other, self._frames, self._aspect)
        if kind == "visit" and self._spots:
            spot = self._spots[int(rng.integers(len(self._spots)))]
            x, y = spot.x + rng.normal(0, 0.08), spot.y + rng.normal(0, 0.05)
            return _pass(rng, swimmer, x, y, self._frames, self._aspect)
        paths = [self._roam(swimmer) for _ in range(4)]
        return max(paths, key=lambda path: self._room(path, role.depth, others))

    def _roam(self, swimmer: Swimmer) -> Trajectory:
        """Swim through any point of the picture."""
        x, y = self._rng.uniform(0.2, 0.8), self._rng.uniform(0.1, self._aspect - 0.14)
        return _pass(self._rng, swimmer, x, y, self._frames, self._aspect)

    def _room(self, path: Trajectory, depth: float, others: dict[int, Trajectory]) -> float:
        """Return how far a path stays from the other fish and nearer scenery, capped near 0.25."""
        room = [
            np.minimum(np.hypot(path.x - other.x, 1.4 * (path.y - other.y)), 0.25).mean()
            for other in others.values()
        ]
        room += [
            np.minimum(np.hypot(path.x - spot.x, path.y - spot.y), 0.25).mean()
            for spot in self._spots
            if spot.depth < depth
        ]
        return float(np.mean(room)) if room else 0.0

    def _choose_hidden(self, count: int) -> dict[int, Spot | None]:
        """Choose who vanishes, and behind what; None stands for a larger fish."""
        rng = self._rng
        small = [i for i, role in enumerate(self._roles) if role.length < 0.3]
        rng.shuffle(small)
        chosen: dict[int, Spot | None] = {}
        for index in small:
            if len(chosen) >= count:
                break
            role = self._roles[index]
            tall = role.length * role.species.half_height * 1.5
            fitting = [
                spot
                for spot in self._spots
                if spot.width > 0.95 * role.length
                and spot.height > tall
                and spot.depth + 0.03 < role.depth
            ]
            if fitting:
                chosen[index] = fitting[int(rng.integers(len(fitting)))]
            elif _screens(role, self._roles):
                chosen[index] = None
        return chosen

    def _hide(
        self,
        swimmer: Swimmer,
        role: Role,
        others: dict[int, Trajectory],
        spot: Spot | None,
    ) -> Trajectory:
        """Vanish behind scenery or a larger fish in the middle of the video."""
        rng, frames = self._rng, self._frames
        anchor = rng.uniform(0.38, 0.62) * (frames - 1)
        wave = (0.3 * swimmer.heave[0], *swimmer.heave[1:])
        flat = replace(swimmer, heave=wave, borders=(-0.1, 1.1), surge=(0.0, 0.02, 0.0))
        if spot is not None:
            pace = 0.5 * (role.length + spot.width) / (0.62 * frames)
            pace = min(max(swimmer.speed, pace, 0.01), 0.0165)
            y = float(np.clip(spot.y + rng.normal(0, 0.012), 0.07, self._aspect - 0.05))
            x, heading = spot.x, _heading(rng, spot.x)
        else:
            screens = [i for i in _screens(role, self._roles) if i in others]
            if not screens:
                middle = float(rng.uniform(0.2, 0.8))
                return _pass(rng, swimmer, middle, 0.5 * self._aspect, frames, self._aspect)
            other = others[screens[int(rng.integers(len(screens)))]]
            t = round(anchor)
            pace, x, y = max(0.008, swimmer.speed), float(other.x[t]), float(other.y[t])
            heading = -1 if other.facing[t] > 0 else 1
        return swim(replace(flat, speed=pace), frames, anchor, x, y, heading)


def _screens(role: Role, roles: Sequence[Role]) -> list[int]:
    """List the fish that are near enough and large enough to cover ``role``."""
    tall = role.length * role.species.half_height
    return [
        i
        for i, other in enumerate(roles)
        if other.depth < role.depth - 0.05
        and other.length > 1.2 * role.length
        and other.length * other.species.half_height > 1.2 * tall
        and other.species.half_height > 0.3
    ]


def _draw_swimmer(rng: np.random.Generator, role: Role) -> Swimmer:
    """Draw the manner of swimming of one fish."""
    species = role.species
    turns_inside = rng.random(2) < 0.4
    margin = [
        rng.uniform(0.0, 0.25) if inside else -rng.uniform(0.0, 0.6) * role.length
        for inside in turns_inside
    ]
    return Swimmer(
        length=role.length,
        girth=species.girth,
        speed=rng.uniform(*species.speed),
        surge=(rng.uniform(0.0, 0.25), rng.uniform(0.015, 0.03), rng.uniform(0, 6.3)),
        heave=(rng.uniform(0.005, 0.03), rng.uniform(0.01, 0.025), rng.uniform(0, 6.3)),
        turn_frames=rng.uniform(9.0, 15.0),
        borders=(margin[0], 1.0 - margin[1]),
        depth=role.depth,
        depth_step=rng.uniform(-0.05, 0.05),
    )


def _heading(rng: np.random.Generator, x: float) -> int:
    """Draw a heading that more often leads to the farther side."""
    return 1 if rng.random() < 0.8 - 0.6 * np.clip(x, 0.0, 1.0) else -1


def _pass(
    rng: np.random.Generator, swimmer: Swimmer, x: float, y: float, frames: int, aspect: float
) -> Trajectory:
    """Swim through a point at some time in the middle of the video."""
    y = float(np.clip(y, 0.09, aspect - 0.09))
    anchor = rng.uniform(0.2, 0.8) * (frames - 1)
    return swim(swimmer, frames, anchor, x, y, _heading(rng, x))


def _meet(
    rng: np.random.Generator, swimmer: Swimmer, other: Trajectory, frames: int, aspect: float
) -> Trajectory:
    """Cross another fish's path, mostly against its direction."""
    anchor = rng.uniform(0.15, 0.85) * (frames - 1)
    t = round(anchor)
    x = float(np.clip(other.x[t] + rng.normal(0, 0.03), 0.05, 0.95))
    y = float(np.clip(other.y[t] + rng.normal(0, 0.05), 0.09, aspect - 0.09))
    heading = -1 if other.facing[t] > 0 else 1
    if rng.random() < 0.35:
        heading = -heading
    return swim(swimmer, frames, anchor, x, y, heading)


def _enter(rng: np.random.Generator, swimmer: Swimmer, frames: int, aspect: float) -> Trajectory:
    """Come into the picture some time after the first frame."""
    heading = int(rng.choice((-1, 1)))
    edge = -0.35 * swimmer.length if heading > 0 else 1.0 + 0.35 * swimmer.length
    y = rng.uniform(0.12, aspect - 0.14)
    fast = replace(swimmer, speed=max(swimmer.speed, 0.009), borders=(-1.0, 2.0))
    return swim(fast, frames, rng.uniform(0.1, 0.35) * (frames - 1), edge, y, heading)


def _leave_and_return(
    rng: np.random.Generator, swimmer: Swimmer, frames: int, aspect: float
) -> Trajectory:
    """Leave the picture, turn round outside and come back."""
    heading = int(rng.choice((-1, 1)))
    edge = 0.53 * swimmer.length
    x = 1.0 - 0.1 * swimmer.length if heading > 0 else 0.1 * swimmer.length
    y = rng.uniform(0.12, aspect - 0.14)
    fast = replace(
        swimmer,
        speed=max(swimmer.speed, 0.013),
        borders=(-edge, 1.0 + edge),
        turn_frames=6.0,
    )
    return swim(fast, frames, rng.uniform(0.1, 0.3) * (frames - 1), x, y, heading)
