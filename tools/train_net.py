#!/usr/bin/env python
"""Train or evaluate the system that a config file describes.

Examples:
    python tools/train_net.py --config-file configs/a2vis/quick/a2vis_aquarium.yaml
    python tools/train_net.py --config-file CONFIG --num-gpus 4 SOLVER.BASE_LR 1e-4
    torchrun --nproc-per-node 4 tools/train_net.py --config-file CONFIG
    python tools/train_net.py --config-file CONFIG --resume
    python tools/train_net.py --config-file CONFIG --eval-only MODEL.WEIGHTS model_final.pth
"""

from __future__ import annotations

import argparse

from amodal2.utils.detectron2_compat import launch  # isort: skip; imports Detectron2 silently
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

import amodal2.data.datasets
import amodal2.modeling  # noqa: F401 registers the systems
from amodal2.checkpoint import AmodalCheckpointer
from amodal2.config import get_cfg
from amodal2.engine import AmodalTrainer, set_execution, start_run
from amodal2.utils.device import available_device


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="yaml file")
    parser.add_argument(
        "--resume", action="store_true", help="continue from OUTPUT_DIR if it holds a checkpoint"
    )
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="evaluate MODEL.WEIGHTS (with --resume: the last checkpoint)",
    )
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        help="processes per machine: GPUs, or with MODEL.DEVICE cpu any number",
    )
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument(
        "--machine-rank", type=int, default=0, help="number of this machine, from 0"
    )
    parser.add_argument(
        "--dist-url",
        default="auto",
        help="meeting point, tcp://host:port; needed with several machines",
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys to change"
    )
    return parser.parse_args(argv)


def load_config(args: argparse.Namespace) -> CfgNode:
    """Merge the defaults, the config file and the keys of the command line."""
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    if args.num_gpus == 1:
        cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    cfg.freeze()
    return cfg


def load_model(cfg: CfgNode, *, resume: bool) -> nn.Module:
    """Build the model with the weights that are evaluated, which must fit exactly."""
    model = build_model(cfg)
    set_execution(cfg, model)
    checkpointer = AmodalCheckpointer(model, cfg.OUTPUT_DIR)
    source = cfg.MODEL.WEIGHTS
    if resume and checkpointer.has_checkpoint():
        source = checkpointer.get_checkpoint_file()
    if not source:
        raise ValueError(
            "train_net: expected weights to evaluate, got an empty MODEL.WEIGHTS; append "
            "MODEL.WEIGHTS FILE to the command line"
        )
    checkpointer.load(source, checkpointables=[])
    checkpointer.last_report.require_exact(source)
    return model


def main(args: argparse.Namespace) -> None:
    """Train or evaluate in this process."""
    cfg = load_config(args)
    start_run(cfg)
    if args.eval_only:
        AmodalTrainer.test(cfg, load_model(cfg, resume=args.resume))
        return
    trainer = AmodalTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


if __name__ == "__main__":
    arguments = parse_arguments()
    launch(
        main,
        arguments.num_gpus,
        num_machines=arguments.num_machines,
        machine_rank=arguments.machine_rank,
        dist_url=arguments.dist_url,
        device=load_config(arguments).MODEL.DEVICE,
        args=(arguments,),
    )
