"""One rank of a data-parallel step of a tiny model: arguments rank, world size, meeting file,
changes of the tiny configuration as a JSON list, output.

The step runs in float64, so that what the ranks differ by is no rounding: parts that the model
computes in float32 by ``Tensor.float`` are computed in float64 here.
"""

import json
import sys

import torch
import torch.distributed as dist
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the model
from amodal2.engine import wrap_distributed
from tests.modeling.tiny import make_sample, tiny_config


def main(rank: int, world: int, meeting: str, changes: str, output: str) -> None:
    """Compute the gradients of this rank's share of four samples, one of them without objects."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = build_model(tiny_config(*json.loads(changes))).double().train()
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    samples = [make_sample(i) for i in range(4)]
    samples[1]["instances"] = [x[:1] for x in samples[1]["instances"]]
    samples[2]["instances"] = [x[:0] for x in samples[2]["instances"]]
    share = len(samples) // world
    parallel = wrap_distributed(model)
    losses = parallel(samples[rank * share : (rank + 1) * share])
    sum(losses.values()).backward()
    if rank == 0:
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        assert all(g.dtype == torch.float64 for g in grads.values()), "gradients are not float64"
        running = {n: x for n, x in model.named_buffers() if "running_" in n}
        torch.save({**grads, **running}, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
