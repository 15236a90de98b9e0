"""One rank of a data-parallel step of a tiny system: rank, world size, meeting file, name, output.

Writes the gradients of this rank after they have been averaged. Runs in float64, so that what the
ranks differ by is no rounding.
"""

import sys

import torch
import torch.distributed as dist
from torch import nn

from amodal2.engine import wrap_distributed
from tests.modeling.c2f_seg import tiny


class Step(nn.Module):
    """The losses of masks, behind the call that the wrapper for several processes needs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        if hasattr(self.model, "d_model"):
            return sum(self.model.losses(masks[:, None].double()).values())
        images = masks[:, None].expand(-1, 3, -1, -1).double()
        return sum(self.model.losses(images, masks, masks, masks).values())


def main(rank: int, world: int, meeting: str, system: str, output: str) -> None:
    """Compute the gradients of this rank's share of four masks."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = tiny.build(system, "MODEL.C2F_SEG.VQ.DEAD_CODE_AGE", 0).double().train()
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    step = wrap_distributed(Step(model))
    share = 4 // world
    torch.manual_seed(rank)
    step(tiny.discs(4)[rank * share : (rank + 1) * share]).backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    torch.save(grads, f"{output}.{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
