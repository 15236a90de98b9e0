"""Data-parallel training that equals training in one process with the whole batch."""

from __future__ import annotations

import torch
from detectron2.utils import comm
from fvcore.nn.distributed import differentiable_all_gather
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def wrap_distributed(model: nn.Module) -> nn.Module:
    """Wrap a model for data-parallel training if there are several processes.

    Its batch normalisation then takes the statistics of the batches of all processes, see
    :func:`synchronise_batch_norm`; names, parameters and buffers stay the same objects.

    Args:
        model: on its device; its layers of batch normalisation are replaced in place.

    Returns:
        nn.Module: the model itself with one process.
    """
    if comm.get_world_size() == 1:
        return model
    model = synchronise_batch_norm(model)
    device = next(model.parameters()).device
    devices = [torch.cuda.current_device()] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Replace batch normalisation, also timm's that activates, by layers that span the processes.

    In training they normalise by the mean and variance over the batches of all processes, every
    position counting the same, and keep the running statistics that one process with all the
    batches would; in evaluation they are ordinary layers. On CUDA they are torch's
    ``SyncBatchNorm``, which refuses the CPU. Detectron2's ``NaiveSyncBatchNorm`` does not, but it
    keeps the biased variance, counts no batches, weighs the processes alike whatever their sizes,
    and computes in bfloat16 under autocast.

    Args:
        model: on its device; changed in place unless it is such a layer itself.

    Returns:
        nn.Module: the model, with the same parameters and buffers under the same names.
    """
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    model = convert_sync_batchnorm(model)
    if on_gpu:
        return model
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.__class__ = CpuSyncBatchNorm  # type: ignore[assignment]
    return model


class CpuSyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """``SyncBatchNorm`` without CUDA kernels, with timm's dropout and activation if there are any.

    Every process must run the layer equally often. :func:`synchronise_batch_norm` makes it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, then activate.

        Args:
            x (Tensor[B, C, ...]): B at least 1.

        Returns:
            Tensor[B, C, ...]: of the same dtype.
        """
        y = self._normalise(x) if self.training else super().forward(x)
        for name in ("drop", "act"):
            y = getattr(self, name, nn.Identity())(y)
        return y

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of axes, as ``SyncBatchNorm`` does."""

    def _normalise(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1]
        own = (wide.mean(axes), wide.var(axes, correction=0), wide.new_full((1,), count))
        every = torch.stack(differentiable_all_gather(torch.cat(own)))  # [processes, 2C+1]
        means, variances, counts = every.split([x.shape[1], x.shape[1], 1], dim=1)
        share = counts / counts.sum()
        mean = (share * means).sum(0)
        var = (share * (variances + (means - mean).square())).sum(0)
        self._track(mean.detach(), var.detach(), counts.sum().detach())
        shape = (1, -1, *[1] * (x.dim() - 2))
        y = (wide - mean.view(shape)) * (var + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            y = y * self.weight.view(shape)
        if self.bias is not None:
            y = y + self.bias.view(shape)
        return y.to(x.dtype)

    def _track(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Move the running statistics towards the unbiased estimates, as torch does."""
        batches = self.num_batches_tracked
        if self.running_mean is None or self.running_var is None or batches is None:
            return
        batches.add_(1)
        factor = 1 / int(batches) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        unbiased = var * (count / (count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), factor)
