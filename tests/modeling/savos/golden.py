"""What the golden files of SaVos hold, as our modules take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from amodal2.modeling.savos import PRESETS, SavosNetwork, TrackInput

FISHBOWL = replace(PRESETS["official"], photometric=0.1)


@dataclass
class Golden:
    """One file: inputs in float32, official outputs, and the weights."""

    raw: dict[str, torch.Tensor]
    outputs: dict[str, Any]
    tracks: TrackInput
    state: dict[str, torch.Tensor]
    base: int

    def fill(self, network: SavosNetwork) -> SavosNetwork:
        """Give a network of width ``base`` the weights."""
        network.load_state_dict(self.state, strict=True)
        return network


def read(path: Path) -> Golden:
    """Read a file."""
    golden = torch.load(path, weights_only=False)
    raw = {key: value.float() for key, value in golden["inputs"].items()}
    position = raw["obj_position"]  # r1, r2, c1, c2
    tracks = TrackInput(
        raw["obj_patches"].permute(0, 1, 4, 2, 3),
        position[..., [0, 2, 1, 3]],
        raw["vm_nocrop"],
        raw["flows_nocrop"].permute(0, 1, 4, 2, 3),
        raw["flows_reverse_nocrop"].permute(0, 1, 4, 2, 3),
    )
    base = 32 // golden["config"]["width_divisor"]
    return Golden(raw, golden["outputs"], tracks, golden["state_dict"], base)
