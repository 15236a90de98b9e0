#!/usr/bin/env python
"""Count the memory that Diffusion-VAS of full size needs, without running it.

Networks and inputs are on the meta device: every op of a forward (and backward) pass runs on shapes
alone, and the bytes of the storages that live at the same time are added up. Attention counts as
fused (no matrix of queries x keys) except with slices. What cuDNN and cuBLAS want for themselves
and the fragmentation of the allocator are not in it.

Example::

    python tools/benchmarks/diffusion_vas_memory.py
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from amodal2.modeling.diffusion_vas.loading import build_pipeline
from amodal2.modeling.diffusion_vas.lora import add_lora

GIB = 2**30
FRAMES = 25


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that ops make while they live; ``peak`` is the largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.live: set[int] = set()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {id_of(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id_of(tensor) not in known | self.live:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.live.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def release() -> None:
            self.live.discard(key)
            self.now -= size

        weakref.finalize(storage, release)


def id_of(tensor: Tensor) -> int:
    """Return what views of one storage share."""
    return tensor.untyped_storage()._cdata


class FusedAttention(torch.autograd.Function):
    """Has the inputs and outputs of fused attention, and keeps what its gradient needs."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def fused_attention() -> Iterator[None]:
    """Let attention on the meta device count as fused."""
    stock = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = lambda query, key, value, **_: (
        FusedAttention.apply(query, key, value)
    )
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = stock


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the peak of what a function allocates on the meta device."""
    with fused_attention(), LiveBytes() as tracker:
        run()
    return tracker.peak


def weights(network: torch.nn.Module, dtype: torch.dtype) -> int:
    """Return the bytes of a network's parameters."""
    return sum(p.numel() for p in network.parameters()) * dtype.itemsize


def count_inference(pipeline: Any, size: tuple[int, int], *, small: bool) -> dict[str, int]:
    """Return the peak of each part in float32; ``small``: halves, slices and single frames."""
    height, width = size
    pipeline.slice_attention(1 if small else None)
    halves, chunk = (1, 1) if small else (2, 8)

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta")

    def unet() -> None:
        h, w = pipeline.latent_size(height, width)
        contexts = empty(halves * FRAMES, 1, pipeline.unet.config.cross_attention_dim)
        pipeline.unet(empty(halves, FRAMES, 12, h, w), 1.0, contexts, empty(halves, 3))

    def decode() -> None:
        h, w = pipeline.latent_size(height, width)
        pipeline.vae.decode(empty(chunk, 4, h, w), num_frames=chunk)

    with torch.no_grad():
        return {
            "image_encoder": peak_bytes(lambda: pipeline.image_encoder(empty(chunk, 3, 224, 224))),
            "vae encode": peak_bytes(lambda: pipeline.vae.encode(empty(chunk, 3, height, width))),
            "unet": peak_bytes(unet),
            "vae decode": peak_bytes(decode),
        }


def count_training(
    pipeline: Any, size: tuple[int, int], trainable: tuple[str, ...], *, checkpointing: bool
) -> int:
    """Return the peak of a forward and backward pass of the UNet in float32, gradients included."""
    pipeline.slice_attention(None)
    unet = pipeline.unet.train()
    unet.requires_grad_(False)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(any(part in name for part in trainable))
    (unet.enable_gradient_checkpointing if checkpointing else unet.disable_gradient_checkpointing)()
    h, w = pipeline.latent_size(*size)

    def step() -> None:
        width = unet.config.cross_attention_dim
        contexts = torch.empty(FRAMES, FRAMES, width, device="meta")
        sample = torch.empty(1, FRAMES, 12, h, w, device="meta")
        (found,) = unet(sample, 1.0, contexts, torch.empty(1, 3, device="meta"))
        (found**2).mean().backward()

    found = peak_bytes(step)
    unet.zero_grad(set_to_none=True)
    return found


def main(argv: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architecture", default="svd")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), metavar=("H", "W"))
    parser.add_argument("--train-size", type=int, nargs=2, default=(128, 256), metavar=("H", "W"))
    parser.add_argument(
        "--trainable", nargs="+", default=["temporal_transformer_block", "conv_in2"]
    )
    parser.add_argument("--lora", type=int, default=0, metavar="RANK")
    parser.add_argument("--training-only", action="store_true")
    args = parser.parse_args(argv)
    with torch.device("meta"):
        pipeline = build_pipeline(args.architecture)
        if args.lora:
            add_lora(pipeline.unet, args.lora)
    parts = {"image_encoder": pipeline.image_encoder, "unet": pipeline.unet, "vae": pipeline.vae}
    for network in parts.values():
        network.to("meta")  # some parameters ignore the default device
    fixed = {name: weights(network, torch.float32) for name, network in parts.items()}
    if not args.training_only:
        print_inference(pipeline, tuple(args.size), fixed)
    print(
        f"training in float32, one clip of {args.train_size[0]} x {args.train_size[1]}, GiB, of "
        f"{', '.join(args.trainable)}"
    )
    whole_weights = sum(fixed.values())
    for checkpointing in (True, False):
        peak = count_training(
            pipeline, tuple(args.train_size), tuple(args.trainable), checkpointing=checkpointing
        )
        trained = sum(p.numel() for p in pipeline.unet.parameters() if p.requires_grad)
        total = whole_weights + 8 * trained + peak
        print(
            f"  checkpointing {checkpointing!s:<6} all {total / GIB:5.1f}: weights "
            f"{whole_weights / GIB:.1f}, moments {8 * trained / GIB:.1f}, gradients and "
            f"activations {peak / GIB:.1f} ({trained:,} numbers are trained)",
            flush=True,
        )
    return 0


def print_inference(pipeline: Any, size: tuple[int, int], fixed: dict[str, int]) -> None:
    """Print the peaks of sampling; ``fixed`` are the bytes of the weights."""
    print(f"inference, {FRAMES} frames of {size[0]} x {size[1]}, GiB", flush=True)
    for small in (False, True):
        found = count_inference(pipeline, size, small=small)
        # The same storages in bfloat16, at half the size.
        for dtype in (torch.float32, torch.bfloat16):
            share = dtype.itemsize / torch.float32.itemsize / GIB
            whole = share * (sum(fixed.values()) + max(found.values()))
            offloaded = share * max(fixed[name.split(" ")[0]] + n for name, n in found.items())
            detail = ", ".join(f"{name} {share * size:.2f}" for name, size in found.items())
            print(
                f"  {str(dtype)[6:]:<9}{'halves, slices, single frames' if small else 'fast':<31}"
                f"all {whole:5.1f}  offload {offloaded:5.1f}  activations: {detail}",
                flush=True,
            )


if __name__ == "__main__":
    raise SystemExit(main())
