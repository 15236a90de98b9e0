"""The mask-and-predict transformer (C2F-Seg, Sec. 3.2), for images and for clips (Sec. 3.4).

One token per position of the code grid: image feature, code of the visible mask and code of the
amodal mask (or MASK) lie side by side in its channels (the paper's text reads as if they were three
sequences).

Shapes: B masks, or N clips of T frames with B = N * T; D channels, h side of the code grid, L = h *
h positions, K codes (index K is MASK).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID_WINDOW = 4
"""Side of a spatial-temporal attention window in tokens."""


class Attention(nn.Module):
    """Multi-head self-attention over all tokens of a sequence."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Build the projections."""
        super().__init__()
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Map Tensor[B, L, D] to the same shape."""
        query, key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        dropout = self.drop.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.drop(self.proj(mixed.transpose(1, 2).flatten(2)))


def feed_forward(width: int, dropout: float) -> nn.Sequential:
    """Return the two layers after the attention."""
    return nn.Sequential(
        nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
    )


class ImageBlock(nn.Module):
    """Attention inside an image, then a feed-forward layer."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Build the layers."""
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, dropout)
        self.mlp = feed_forward(width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map Tensor[B, L, D] to the same shape."""
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class VideoBlock(nn.Module):
    """Attention inside each frame, then inside windows of frames, then a feed-forward layer."""

    def __init__(self, width: int, heads: int, dropout: float, window: int) -> None:
        """Build the layers.

        Args:
            width: D.
            heads: of both attentions.
            dropout: in [0, 1).
            window: frames of a window.
        """
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.ln3 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads, dropout)
        self.attn2 = Attention(width, heads, dropout)
        self.mlp = feed_forward(width, dropout)
        self.window = window

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the weights of an image block too, and do what it does in each frame at first."""
        if prefix + "attn.proj.weight" in state:
            for old, new in (("attn.", "attn1."), ("ln2.", "ln3.")):
                for name in [name for name in state if name.startswith(prefix + old)]:
                    state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)
            for old, layer in (("ln2.", self.ln2), ("attn2.", self.attn2)):
                for name, value in layer.state_dict().items():
                    still = name.startswith("proj.")
                    state[prefix + old + name] = torch.zeros_like(value) if still else value
        super()._load_from_state_dict(state, prefix, *args)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Map Tensor[N * T, L, D] to the same shape; ``frames`` is T."""
        x = x + self.attn1(self.ln1(x))
        grouped = group_windows(x, frames, self.window)
        grouped = grouped + self.attn2(self.ln2(grouped))
        x = ungroup_windows(grouped, x.shape, frames, self.window)
        return x + self.mlp(self.ln3(x))


def group_windows(x: Tensor, frames: int, window: int) -> Tensor:
    """Cut clips into windows of w frames and 4 x 4 tokens.

    Args:
        x (Tensor[N * T, L, D]): tokens.
        frames: T, a multiple of w.
        window: w.

    Returns:
        Tensor[N * T / w * L / 16, 16 w, D]: one sequence per window; windows in the order (clip,
        time, row, column), tokens in the order (time, row, column).
    """
    side = round(x.shape[1] ** 0.5)
    cells, g = side // GRID_WINDOW, GRID_WINDOW
    x = x.reshape(-1, frames // window, window, cells, g, cells, g, x.shape[2])
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, window * g * g, x.shape[-1])


def ungroup_windows(x: Tensor, shape: Sequence[int], frames: int, window: int) -> Tensor:
    """Undo :func:`group_windows`; ``shape`` is that of its input."""
    cells, g = round(shape[1] ** 0.5) // GRID_WINDOW, GRID_WINDOW
    x = x.reshape(-1, frames // window, cells, cells, window, g, g, shape[2])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(*shape)


class CodeHead(nn.Module):
    """The layers before the logits."""

    def __init__(self, width: int) -> None:
        """Build the layers."""
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.dense = nn.Linear(width, width)
        self.ln2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map Tensor[B, L, D] to the same shape."""
        return self.ln2(F.gelu(self.dense(self.ln1(x))))


class CoarseTransformer(nn.Module):
    """Predicts the codes of amodal masks (official ``model``).

    Raises:
        ValueError: if the width does not split into heads and quarters, or windows do not fit the
            grid.
    """

    def __init__(
        self,
        *,
        in_channels: int = 2048,
        width: int = 768,
        heads: int = 12,
        layers: int = 12,
        codes: int = 256,
        length: int = 256,
        dropout: float = 0.01,
        window: int = 0,
        roll: bool = True,
    ) -> None:
        """Build the layers.

        Args:
            in_channels: of the image features.
            width: D.
            heads: of the attention.
            layers: number of blocks.
            codes: K.
            length: L.
            dropout: in [0, 1).
            window: frames of a spatial-temporal window; 0 builds the image model.
            roll: move clips of several windows on by half a window after each block.
        """
        super().__init__()
        if width % heads or width % 4:
            raise ValueError(
                f"CoarseTransformer: expected a width in multiples of 4 and of {heads} heads, got "
                f"{width}"
            )
        if window and round(length**0.5) % GRID_WINDOW:
            raise ValueError(
                f"CoarseTransformer: expected a grid with a side in multiples of {GRID_WINDOW} for "
                f"windows, got {length} positions"
            )
        self.window, self.roll, self.mask_index = window, roll, codes
        self.conv_in = nn.Conv2d(in_channels, width // 2, 3, padding=1)
        self.c_emb = nn.Embedding(codes + 1, width // 4)
        self.z_emb = nn.Embedding(codes + 1, width // 4)
        self.pos_emb = nn.Embedding(length, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            VideoBlock(width, heads, dropout, window)
            if window
            else ImageBlock(width, heads, dropout)
            for _ in range(layers)
        )
        self.dec = CodeHead(width)
        self.m_dec = nn.Linear(width, codes + 1, bias=False)
        self.m_bias = nn.Parameter(torch.zeros(codes + 1))
        self.apply(_initialise)

    def forward(self, features: Tensor, visible: Tensor, amodal: Tensor, frames: int = 1) -> Tensor:
        """Return the logits of all positions.

        Args:
            features (Tensor[B, C, h, h]): of the image.
            visible (Tensor[B, L]): codes of the visible masks.
            amodal (Tensor[B, L]): codes of the amodal masks, K where unknown.
            frames: T, a multiple of the window; unused by the image model.

        Returns:
            Tensor[B, L, K + 1]: logits; the last one is MASK.
        """
        return self.predict(self.condition(features, visible), amodal, frames)

    def condition(self, features: Tensor, visible: Tensor) -> Tensor:
        """Embed what all steps of the decoding share, Tensor[B, L, 3/4 D]; see :meth:`forward`."""
        image = self.conv_in(features).flatten(2).transpose(1, 2)
        given = torch.cat([image, self.c_emb(visible)], dim=2)
        return given + self.pos_emb.weight[:, : given.shape[2]]

    def predict(self, condition: Tensor, amodal: Tensor, frames: int = 1) -> Tensor:
        """Return the logits Tensor[B, L, K + 1] of one step; see :meth:`forward`."""
        codes = self.z_emb(amodal) + self.pos_emb.weight[:, condition.shape[2] :]
        x = self.drop(torch.cat([condition, codes], dim=2))
        x = self._run_video(x, frames) if self.window else self._run_image(x)
        return self.m_dec(self.dec(x)) + self.m_bias

    def _run_image(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def _run_video(self, x: Tensor, frames: int) -> Tensor:
        """Run the blocks, after each of which time moves on by half a window, cyclically."""
        if frames % self.window:
            raise ValueError(
                f"CoarseTransformer: expected frames in multiples of the window of {self.window}, "
                f"got {frames}; pad the clip with copies of its last frame"
            )
        # Inside one window the order of the frames means nothing.
        step = self.window // 2 if self.roll and frames > self.window else 0
        for block in self.blocks:
            x = _roll(block(x, frames), frames, step)
        return _roll(x, frames, -step * len(self.blocks))


def _roll(x: Tensor, frames: int, step: int) -> Tensor:
    """Move Tensor[N * T, ...] on in time, within each clip."""
    if step % frames == 0:
        return x
    return x.unflatten(0, (-1, frames)).roll(step, dims=1).flatten(0, 1)


def _initialise(module: nn.Module) -> None:
    """Draw the weights as the official code does; convolutions keep torch's initialisation."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
