"""The two readings of SaVos: the released code with its quirks, and the equations of the paper."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SavosOptions:
    """Where the released code and the paper differ.

    Attributes:
        mask_input_channel: patch channel that the mask completer sees: 3 the visible mask, 4 the
            horizontal flow.
        warp: "splat" (value at p moves to p + F[p], Eq. 2) or "backward" (value at p comes from p -
            F[p]).
        offset: added to the coordinates of the warp, in pixels.
        padding: "zeros" or "border", what lies outside the frame.
        observed_base: start the motion from the observed flow on visible pixels and from its mean
            elsewhere; False takes the mean everywhere (Eq. 12).
        empty_mean: mean flow of an object without visible pixels: 0, or NaN as in the released
            code.
        centred_paste: displace pasted patches by half a pixel where frame and patch differ by an
            odd number.
        late_flow: the consistency loss warps the prediction for t + 1 with the flow of t + 1; False
            with that of t.
        falling_weights: weights T - 1, T - 2, ... in the consistency loss; False 1.
        stale_frames: the consistency loss includes the last two merged frames, which have no
            reverse prediction of their own.
        photometric: weight of the photometric loss, 0 leaves it out.
    """

    mask_input_channel: int = 3
    warp: str = "splat"
    offset: float = 0.0
    padding: str = "zeros"
    observed_base: bool = False
    empty_mean: float = 0.0
    centred_paste: bool = False
    late_flow: bool = True
    falling_weights: bool = False
    stale_frames: bool = False
    photometric: float = 0.0


PRESETS: dict[str, SavosOptions] = {
    "paper": SavosOptions(),
    "official": SavosOptions(
        mask_input_channel=4,
        warp="backward",
        offset=-0.5,
        padding="border",
        observed_base=True,
        empty_mean=float("nan"),
        centred_paste=True,
        late_flow=False,
        falling_weights=True,
        stale_frames=True,
    ),
}
"""Name to options; "official" with photometric 0.1 is the released code on FISHBOWL, with 0 on
KINS."""
