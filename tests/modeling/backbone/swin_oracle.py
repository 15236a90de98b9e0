"""The detection Swin Transformer window by window, from its parameters under the official names.

Written from the definition: positions are looked up instead of rolled, and two patches of a window
may see each other unless the border of the picture has been rolled in between them.
"""

import itertools
import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def pyramid(x: Tensor, p: Weights, heads: tuple[int, ...], window: int) -> list[Tensor]:
    """Levels [C, h, w] of one image [3, H, W] whose blocks all have the same window."""
    grid = patches(x, p)
    levels = []
    for i, num_heads in enumerate(heads):
        blocks = {int(k.split(".")[3]) for k in p if k.startswith(f"layers.{i}.blocks.")}
        for j in sorted(blocks):
            grid = block(
                grid, below(p, f"layers.{i}.blocks.{j}."), num_heads, window, j % 2 * (window // 2)
            )
        levels.append(norm(grid, p, f"norm{i}").permute(2, 0, 1))
        if i + 1 < len(heads):
            grid = merge(grid, below(p, f"layers.{i}.downsample."))
    return levels


def below(p: Weights, prefix: str) -> Weights:
    return {k.removeprefix(prefix): v for k, v in p.items() if k.startswith(prefix)}


def norm(x: Tensor, p: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / scale * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(x: Tensor, p: Weights, name: str) -> Tensor:
    return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0)


def patches(x: Tensor, p: Weights) -> Tensor:
    """Grid [h, w, C] of 4x4 patches; the last ones reach beyond the image, over zeros."""
    _, height, width = x.shape
    rows, columns = math.ceil(height / 4), math.ceil(width / 4)
    canvas = x.new_zeros(3, rows * 4, columns * 4)
    canvas[:, :height, :width] = x
    kernel = p["patch_embed.proj.weight"].flatten(1)
    grid = x.new_empty(rows, columns, len(kernel))
    for r, c in itertools.product(range(rows), range(columns)):
        patch = canvas[:, r * 4 : r * 4 + 4, c * 4 : c * 4 + 4]
        grid[r, c] = kernel @ patch.flatten() + p["patch_embed.proj.bias"]
    return norm(grid, p, "patch_embed.norm")


def merge(grid: Tensor, p: Weights) -> Tensor:
    """Join 2x2 patches, down the columns first; zeros below and to the right of an odd grid."""
    rows, columns, channels = grid.shape
    out = []
    for r, c in itertools.product(range(0, rows, 2), range(0, columns, 2)):
        corners = [(r, c), (r + 1, c), (r, c + 1), (r + 1, c + 1)]
        parts = [
            grid[y, x] if y < rows and x < columns else grid.new_zeros(channels) for y, x in corners
        ]
        out.append(torch.cat(parts))
    joined = torch.stack(out).view(math.ceil(rows / 2), math.ceil(columns / 2), -1)
    return linear(norm(joined, p, "norm"), p, "reduction")


def block(grid: Tensor, p: Weights, heads: int, window: int, shift: int) -> Tensor:
    grid = grid + attend(norm(grid, p, "norm1"), below(p, "attn."), heads, window, shift)
    hidden = linear(norm(grid, p, "norm2"), p, "mlp.fc1")
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return grid + linear(hidden, p, "mlp.fc2")


def attend(grid: Tensor, p: Weights, heads: int, window: int, shift: int) -> Tensor:
    rows, columns, channels = grid.shape
    height, width = (math.ceil(n / window) * window for n in (rows, columns))
    padded = grid.new_zeros(height, width, channels)
    padded[:rows, :columns] = grid
    out = torch.empty_like(padded)
    inside = list(itertools.product(range(window), range(window)))
    table = p["relative_position_bias_table"]
    for top, left in itertools.product(range(0, height, window), range(0, width, window)):
        places = [(top + dy + shift, left + dx + shift) for dy, dx in inside]
        tokens = torch.stack([padded[y % height, x % width] for y, x in places])
        q, k, v = linear(tokens, p, "qkv").view(len(inside), 3, heads, -1).unbind(1)
        read = torch.empty_like(q)
        for a, (ay, ax) in enumerate(inside):
            for head in range(heads):
                logits = k[:, head] @ q[a, head] / math.sqrt(q.shape[-1])
                for b, (by, bx) in enumerate(inside):
                    place = (ay - by + window - 1) * (2 * window - 1) + ax - bx + window - 1
                    logits[b] += table[place, head]
                    same_side = [
                        (places[a][i] >= n) == (places[b][i] >= n)
                        for i, n in enumerate((height, width))
                    ]
                    if not all(same_side):
                        logits[b] -= 100
                read[a, head] = logits.softmax(0) @ v[:, head]
        for (y, x), value in zip(places, linear(read.flatten(1), p, "proj"), strict=True):
            out[y % height, x % width] = value
    return out[:rows, :columns]
