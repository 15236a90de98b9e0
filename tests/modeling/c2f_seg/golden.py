"""The golden files of C2F-Seg and models with their weights."""

from pathlib import Path

import torch
from torch import Tensor, nn

from amodal2.modeling.c2f_seg.coarse_transformer import CoarseTransformer
from amodal2.modeling.c2f_seg.decoding import CodeChoice
from amodal2.modeling.c2f_seg.refine import RefineModule
from amodal2.modeling.c2f_seg.vq_mask import MaskAutoencoder


class GivenChoice(CodeChoice):
    """Takes draws that were made before, one pair per step."""

    def __init__(self, codes: Tensor, noise: Tensor) -> None:
        self.drawn = iter(zip(codes, noise, strict=True))

    def codes(self, probabilities: Tensor) -> Tensor:
        codes, self.next_noise = next(self.drawn)
        return codes

    def noise(self, like: Tensor) -> Tensor:
        return self.next_noise


def read(path: Path) -> dict:
    data = torch.load(path, weights_only=True)
    for part in ("state_dict", "inputs", "outputs"):
        data[part] = {
            name: value.float() if value.dtype == torch.float16 else value
            for name, value in data[part].items()
        }
    return data


def fill(module: nn.Module, data: dict, prefix: str) -> nn.Module:
    """Load the weights below a prefix, strictly, and switch to evaluation."""
    weights = data["state_dict"].items()
    state = {n.removeprefix(prefix): v for n, v in weights if n.startswith(prefix)}
    module.load_state_dict(state, strict=True)
    return module.eval()


def autoencoder(data: dict) -> MaskAutoencoder:
    vq = data["config"]["vq"]
    module = MaskAutoencoder(
        channels=vq["ch"],
        multipliers=vq["ch_mult"],
        blocks=vq["num_res_blocks"],
        latent_channels=vq["z_channels"],
        code_channels=vq["embed_dim"],
        codes=vq["n_embed"],
    )
    return fill(module, data, "g_model.")


def transformer(config: dict, window: int = 0) -> CoarseTransformer:
    return CoarseTransformer(
        in_channels=config["in_channels"],
        width=config["n_embd"],
        heads=config["n_head"],
        layers=config["n_layer"],
        codes=config["vocab_size"],
        length=config["sequence_length"],
        window=window,
    )


def refinement(data: dict) -> RefineModule:
    config = data["config"]["refine"]
    return fill(RefineModule(config["feat_dims"], config["dims"]), data, "refine.")


def features(data: dict) -> list[Tensor]:
    return [data["inputs"][f"feat_c{level}"] for level in (2, 3, 4, 5)]


def crop(position: Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Translate the official first row, last row, first column, last column (may be outside)."""
    top, bottom, left, right = position.int().tolist()
    return top, left, min(size[0], bottom + 1) - top, min(size[1], right + 1) - left
