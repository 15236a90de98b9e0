"""Rows of the result tables of C2F-Seg."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CONFIGS = {
    "market": "configs/c2f_seg/quick/c2f_seg_market.yaml",
    "image": "configs/c2f_seg/quick/c2f_seg_aquarium_image.yaml",
    "video": "configs/c2f_seg/quick/c2f_seg_aquarium.yaml",
    "unet": "configs/savos/quick/unet_aquarium.yaml",
    "savos": "configs/savos/quick/savos_aquarium.yaml",
}
"""Name of the weights -> their config."""

MARKET, AQUARIUM = ("market", "market_predicted"), ("aquarium", "aquarium_predicted")
VIDEOS = (*AQUARIUM, "playroom")
PREDICTED = ("market_predicted", "aquarium_predicted")


@dataclass(frozen=True)
class Row:
    """One completer.

    Attributes:
        name: of its files.
        title: in the tables.
        completer: its name; "" takes the detector's own amodal masks.
        weights: of ``CONFIGS``, "" for none.
        sets: datasets that it runs on.
        extra: options of the completer.
    """

    name: str
    title: str
    completer: str
    weights: str = ""
    sets: tuple[str, ...] = MARKET + VIDEOS
    extra: tuple[str, ...] = ()

    def options(self, weights: Mapping[str, str], dataset: str) -> list[str] | None:
        """Return the options of the completer on a dataset; None if it does not run there.

        Args:
            weights: name -> file.
            dataset: name.
        """
        if dataset not in self.sets or (self.weights and self.weights not in weights):
            return None
        if not self.weights:
            return list(self.extra)
        files = [f"config={CONFIGS[self.weights]}", f"weights={weights[self.weights]}"]
        return [*files, *self.extra]


def _c2f(name: str, title: str, weights: str, sets: tuple[str, ...], *extra: str) -> Row:
    return Row(name, title, "c2f_seg", weights, sets, extra)


def _keys(*pairs: object) -> str:
    return f"opts={list(pairs)!r}"


_STEPS = "MODEL.C2F_SEG.STEPS"
_GT_MARKET, _GT = ("market",), ("aquarium",)

ROWS = (
    Row("detector", "the detector's own", "", sets=PREDICTED),
    Row("modal", "visible mask", "modal"),
    Row("convex", "convex hull", "convex"),
    Row("union", "union over time", "union", sets=VIDEOS),
    Row("unet", "U-Net, supervised", "unet", "unet", VIDEOS),
    Row("savos", "SaVos", "savos", "savos", VIDEOS),
    _c2f("market", "C2F-Seg image", "market", MARKET),
    _c2f("market_coarse", "without refinement", "market", MARKET, "refine=False"),
    *(
        _c2f(f"market_k{k}", f"K = {k}", "market", _GT_MARKET, _keys(_STEPS, k))
        for k in (1, 2, 3, 5)
    ),
    _c2f(
        "market_drawn",
        "K = 3, codes drawn",
        "market",
        _GT_MARKET,
        _keys("MODEL.C2F_SEG.DETERMINISTIC", False, _STEPS, 3),
    ),
    _c2f("image", "C2F-Seg image", "image", VIDEOS),
    _c2f("image_coarse", "image, without refinement", "image", _GT, "refine=False"),
    *(_c2f(f"image_k{k}", f"image, K = {k}", "image", _GT, _keys(_STEPS, k)) for k in (1, 2, 3, 5)),
    _c2f("video", "C2F-Seg video", "video", VIDEOS),
    _c2f("video_one", "video, one window at once", "video", _GT, "windows=1"),
    _c2f(
        "video_still",
        "video, without rolling",
        "video",
        _GT,
        _keys("MODEL.C2F_SEG.ROLL", False),
    ),
)
"""All rows in the order of the tables."""
