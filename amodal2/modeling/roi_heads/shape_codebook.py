"""Typical shapes of each class: an auto-encoder of masks and the codes of many of them.

VRSP (Xiao et al., AAAI 2021), Sec. 3.3. Shapes: N masks, M their side (28), D numbers per code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.layers import Conv2d
from safetensors.torch import load_file
from torch import Tensor, nn

_STAGES = 2
_NET, _CODES = "recon_net.", "codes."


class ShapeAutoencoder(nn.Module):
    """Turns masks into short codes and back; the names are those of the official code."""

    def __init__(self, channels: int = 8) -> None:
        """Build the layers.

        Args:
            channels: of every layer; a code has ``channels * (M / 4) ** 2`` numbers.
        """
        super().__init__()
        self.channels = channels
        for k in range(_STAGES):
            conv = Conv2d(
                channels if k else 1, channels, 3, stride=2, padding=1, activation=nn.ReLU()
            )
            self.add_module(f"mask_fcn_enc{k + 1}", conv)
            up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            decoder = nn.Sequential(up, nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
            self.add_module(f"mask_fcn_dec{k + 1}", decoder)
        self.outconv = nn.Sequential(nn.Conv2d(channels, 1, 3, padding=1), nn.Sigmoid())

    def encode(self, masks: Tensor) -> Tensor:
        """Return the codes [N, D] of masks [N, M, M]."""
        x = masks[:, None]
        for k in range(_STAGES):
            x = getattr(self, f"mask_fcn_enc{k + 1}")(x)
        return x.flatten(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the masks [..., M, M], in [0, 1], of codes [..., D]."""
        side = round((codes.shape[-1] / self.channels) ** 0.5)
        x = codes.reshape(-1, self.channels, side, side)
        for k in range(_STAGES):
            x = getattr(self, f"mask_fcn_dec{k + 1}")(x)
        x = self.outconv(x)
        return x.reshape(*codes.shape[:-1], *x.shape[-2:])


class ShapeCodebook(nn.Module):
    """The codes of each class, as buffers that no checkpoint holds."""

    def __init__(self, codes: Mapping[int, Tensor] | None = None) -> None:
        """Store codes.

        Args:
            codes (dict[int, Tensor[L, D]]): class index -> its codes.
        """
        super().__init__()
        for index, values in (codes or {}).items():
            self.register_buffer(f"class_{index}", values, persistent=False)

    def nearest(self, codes: Tensor, classes: Tensor, count: int) -> Tensor:
        """Find the nearest codes of the same class.

        Args:
            codes (Tensor[N, D]): of predicted masks.
            classes (Tensor[N]): int64 class index.
            count: codes wanted.

        Returns:
            Tensor[N, count, D]: from near to far. A class with fewer codes repeats its nearest, one
            without any gives the predicted codes themselves.
        """
        result = codes[:, None].repeat(1, count, 1)
        for index in classes.unique().tolist():
            known = getattr(self, f"class_{index}", None)
            if known is None or not len(known):
                continue
            own = classes == index
            distances = torch.cdist(codes[own].float(), known.float())
            order = distances.topk(min(count, len(known)), largest=False).indices
            missing = order[:, :1].expand(-1, count - order.shape[1])
            result[own] = known.to(codes.dtype)[torch.cat((missing, order), dim=1)]
        return result


def load_shapes(path: str | Path, num_classes: int) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
    """Read a file of ``tools/build_shape_codebook.py``.

    Args:
        path: a safetensors file.
        num_classes: of the model.

    Returns:
        tuple: state of the auto-encoder, and class index -> codes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds something else or another number of classes.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"load_shapes: expected a file of shapes, got {path}; make it with "
            "tools/build_shape_codebook.py"
        )
    tensors = load_file(str(path))
    state = {n.removeprefix(_NET): t for n, t in tensors.items() if n.startswith(_NET)}
    codes = {int(n.removeprefix(_CODES)): t for n, t in tensors.items() if n.startswith(_CODES)}
    if not state or max(codes, default=0) >= num_classes:
        raise ValueError(
            f"load_shapes: expected an auto-encoder and codes of classes below {num_classes}, got "
            f"{len(state)} parameters and classes {sorted(codes)} in {path}"
        )
    return state, codes


def shape_tensors(net: ShapeAutoencoder, codes: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """Return what :func:`load_shapes` reads, by name."""
    state = {f"{_NET}{name}": value for name, value in net.state_dict().items()}
    return state | {f"{_CODES}{index}": values for index, values in codes.items()}
