"""The rows of the aquarium's result table: which config, which detector, which switches.

Every row trains on the same number of frames, from the same start: a fixed frame detector of the
kind of mask that the row needs, and the shipped model's ``vita_module`` with VITA's heads. What
A2VIS adds to it starts by repeating VITA, as the baselines' heads do (``MODEL.A2VIS.START vita``).
AISFormer-TrackRCNN has another backbone and starts from the shipped detector of the market.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

A2VIS = "a2vis/quick/a2vis_aquarium.yaml"
_BASELINES = "baselines/quick"
_SAMH = "MODEL.A2VIS.SAMH"
FRAMES = 15
"""Per iteration. Samples are whole stretches of video: A2VIS that has learnt from two clips of
three frames loses its objects from the fourth clip of a test video on."""


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Args:
        name: of files and on the command line.
        title: what the table shows.
        config: path below ``configs/``.
        options: config keys and values that differ.
        detector: kind of mask that the frame detector knows, "visible" or "amodal".
        cached: its detector is fixed, so that the outputs are computed once.
        clip_len: frames per clip N_c.
        clips: clips per training sample.
        length: factor of the budget.
    """

    name: str
    title: str
    config: str
    options: tuple[Any, ...] = ()
    detector: str = "visible"
    cached: bool = True
    clip_len: int = 3
    clips: int = 5
    length: int = 1

    @property
    def batch(self) -> int:
        """Samples per iteration, as many as have ``FRAMES`` frames at most, but one at least."""
        return max(1, FRAMES // (self.clip_len * self.clips))

    def iterations(self, budget: int) -> int:
        """Return how often the row trains to see as many frames as the others.

        Args:
            budget: iterations of a row of the standard length with ``FRAMES`` frames each.
        """
        return -(-FRAMES * budget * self.length // (self.batch * self.clip_len * self.clips))


def _a2vis(name: str, title: str, *options: Any, **settings: Any) -> Variant:
    start = ("MODEL.A2VIS.START", "vita", "MODEL.A2VIS.UPDATE.INIT", "first_clip")
    samh = (f"{_SAMH}.RESIDUAL", True, f"{_SAMH}.FEAT_POS", False)
    return Variant(name, title, A2VIS, (*start, *samh, *options), **settings)


_NO_VSPM, _NO_ASPM = (f"{_SAMH}.USE_VSPM", False), (f"{_SAMH}.USE_ASPM", False)
_FIXED = ("MODEL.BASELINES.FREEZE_DETECTOR", True)

REQUIRED = (
    _a2vis("a2vis", "A2VIS"),
    Variant(
        "genvis_amodal",
        "GenVIS-Amodal",
        f"{_BASELINES}/genvis_amodal_aquarium.yaml",
        _FIXED,
        detector="amodal",
    ),
    Variant(
        "vita_amodal",
        "VITA-Amodal",
        f"{_BASELINES}/vita_amodal_aquarium.yaml",
        _FIXED,
        detector="amodal",
        clip_len=FRAMES,
        clips=1,
    ),
    _a2vis("a2vis_neither", "A2VIS without VSPM, ASPM", *_NO_VSPM, *_NO_ASPM),
    _a2vis("a2vis_no_vspm", "A2VIS without VSPM", *_NO_VSPM),
    _a2vis("a2vis_no_aspm", "A2VIS without ASPM", *_NO_ASPM),
    _a2vis("a2vis_no_samh", "A2VIS without SAMH", f"{_SAMH}.ENABLED", False),
)
"""A2VIS against two baselines (Table 2), its parts (Tables 4, 8); the most telling rows first."""

FULL = (
    *REQUIRED,
    Variant(
        "mask2former_amodal",
        "Mask2Former-Amodal",
        f"{_BASELINES}/mask2former_amodal_aquarium.yaml",
        detector="amodal",
        cached=False,
        clip_len=2,
        clips=1,
    ),
    Variant(
        "minvis", "MinVIS", f"{_BASELINES}/minvis_aquarium.yaml", cached=False, clip_len=1, clips=1
    ),
    Variant(
        "aisformer_trackrcnn",
        "AISFormer-TrackRCNN",
        "roi_heads/quick/aisformer_trackrcnn_aquarium.yaml",
        ("MODEL.WEIGHTS", "amodal2://mask_joint_market.safetensors"),
        cached=False,
        clip_len=2,
        clips=1,
    ),
    _a2vis("a2vis_nc1", "A2VIS, N_c = 1", clip_len=1, clips=15),
    _a2vis("a2vis_nc5", "A2VIS, N_c = 5", clip_len=5, clips=3),
    _a2vis("a2vis_nc7", "A2VIS, N_c = 7", clip_len=7, clips=2),
    *(_a2vis(f"a2vis_l{n}", f"A2VIS, L = {n}", f"{_SAMH}.NUM_LAYERS", n) for n in (1, 3, 5)),
    *(_a2vis(f"a2vis_convs{n}", f"A2VIS, {n} convs", f"{_SAMH}.NUM_CONVS", n) for n in (2, 6)),
    _a2vis("a2vis_on_amodal", "A2VIS on the amodal detector", detector="amodal"),
    _a2vis(
        "a2vis_on_amodal_update",
        "A2VIS on the amodal detector, CARRY update",
        *("MODEL.A2VIS.CARRY", "update"),
        detector="amodal",
    ),
    Variant(
        "genvis_amodal_on_visible",
        "GenVIS-Amodal on the visible detector",
        f"{_BASELINES}/genvis_amodal_aquarium.yaml",
        _FIXED,
    ),
    Variant("a2vis_random", "A2VIS, its modules from random values", A2VIS),
    _a2vis("a2vis_long", "A2VIS, 3 x the budget", length=3),
    Variant(
        "genvis_amodal_long",
        "GenVIS-Amodal, 3 x the budget",
        f"{_BASELINES}/genvis_amodal_aquarium.yaml",
        _FIXED,
        detector="amodal",
        length=3,
    ),
)
"""Also Tables 5 (N_c), 6 (L), 7 (convolutions), what the detector and the start are worth, and a
longer schedule."""


def select(names: list[str] | None, *, full: bool) -> list[Variant]:
    """Return the rows to train.

    Args:
        names: of them; None takes all.
        full: the rows of ``FULL`` instead of ``REQUIRED`` where no names are given.

    Raises:
        ValueError: if a name is unknown.
    """
    if names is None:
        return list(FULL if full else REQUIRED)
    known = {variant.name: variant for variant in FULL}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"aquarium_table: expected names among {', '.join(known)}, got {', '.join(unknown)}"
        )
    return [known[name] for name in dict.fromkeys(names)]
