"""The training loop for every registered system."""

from __future__ import annotations

import importlib.util
import logging
import os
import random
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.engine import HookBase, TrainerBase
from detectron2.engine.hooks import EvalHook, IterationTimer, PeriodicWriter
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from amodal2.checkpoint import AmodalCheckpointer
from amodal2.data.build import build_test_loader, build_train_loader
from amodal2.engine.accumulation import add_gradients
from amodal2.engine.detector_cache import fill_detector_cache
from amodal2.engine.distributed import wrap_distributed
from amodal2.engine.execution import set_execution
from amodal2.engine.hooks import CheckpointHook, ScheduleHook
from amodal2.engine.optimizer import (
    build_optimizer,
    build_scheduler,
    clip_gradients,
    scale_to_batch,
)
from amodal2.modeling.roi_heads import GeneralizedRCNNAmodalWithTTA
from amodal2.utils.device import bfloat16_pays


class AmodalTrainer(TrainerBase):
    """Trains the system that a config describes.

    The model maps a batch to a dict of scalar losses, whose sum is minimised. Data and all random
    choices of an iteration depend only on the seed, the iteration and the rank: the random
    generators are seeded anew before every iteration, so a run that was killed and resumed ends
    with the weights of one that was not, whatever the number of workers, of evaluations in between,
    or of the restarts.

    Attributes:
        cfg (CfgNode): the configuration, with the seed that is used.
        model (nn.Module): wrapped in ``DistributedDataParallel`` if there are several processes.
        optimizer (Optimizer): over the trainable parameters.
        scheduler (LambdaLR): learning rate schedule.
        checkpointer (AmodalCheckpointer): reads and writes ``OUTPUT_DIR``.
        seed (int): ``SEED``, or one drawn at random if that is negative.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build everything but the data loader, which comes with the first iteration.

        Args:
            cfg: configuration; not changed.

        Raises:
            ValueError: if ``SOLVER.IMS_PER_BATCH`` does not divide over the processes and the
                ``SOLVER.ACCUMULATE`` parts of each, or a setting has no meaning.
        """
        super().__init__()
        self.seed = _agree_on_seed(cfg.SEED)
        self.cfg = scale_to_batch(cfg)
        _check_parts(self.cfg)
        self._set_config_seed()
        seed_everything(self.seed)
        model = build_model(self.cfg)
        set_execution(self.cfg, model)
        _augmented(self.cfg, model)  # so that a model that cannot be stops here
        self.optimizer = build_optimizer(self.cfg, model)
        self.scheduler = build_scheduler(self.cfg, self.optimizer)
        self.model = wrap_distributed(model)
        self.checkpointer = AmodalCheckpointer(
            model, self.cfg.OUTPUT_DIR, optimizer=self.optimizer, scheduler=self.scheduler
        )
        self.start_iter = 0
        self.max_iter = self.cfg.SOLVER.MAX_ITER
        self._device_type = next(model.parameters()).device.type
        self._autocast = self._choose_autocast()
        self._batches: Iterator[list[dict[str, Any]]] | None = None
        self.register_hooks(self.build_hooks())

    def _choose_autocast(self) -> bool:
        """Follow ``SOLVER.AMP.ENABLED``, unless the CPU would have to emulate bfloat16."""
        if not self.cfg.SOLVER.AMP.ENABLED or bfloat16_pays(self._device_type):
            return self.cfg.SOLVER.AMP.ENABLED
        logging.getLogger(__name__).warning(
            "SOLVER.AMP.ENABLED is ignored: this CPU has no bfloat16 instructions, training runs "
            "in float32"
        )
        return False

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint in ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS``.

        A warning names the parts that are neither trained nor among the weights.

        Args:
            resume: True continues if there is a checkpoint; False always starts at iteration 0.

        Raises:
            CheckpointError: if a checkpoint to continue from does not fit the model exactly.
        """
        continued = resume and self.checkpointer.has_checkpoint()
        extra = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if not continued:
            self._warn_of_initial_values()
            return
        self.checkpointer.last_report.require_exact(self.checkpointer.get_checkpoint_file())
        self.start_iter = int(extra["iteration"]) + 1
        if self.cfg.SEED != extra["seed"]:
            logging.getLogger(__name__).info(
                "Continuing with the seed %d of the checkpoint", extra["seed"]
            )
            self.seed = int(extra["seed"])
            self._set_config_seed()

    def train(self) -> OrderedDict | None:
        """Train from ``start_iter`` to ``SOLVER.MAX_ITER``.

        Returns:
            OrderedDict | None: results of the last evaluation on the main process, if there was
            one.
        """
        self._last_results: OrderedDict | None = None
        if self.start_iter >= self.max_iter:
            logging.getLogger(__name__).info(
                "Nothing to train: %d of %d iterations are done", self.start_iter, self.max_iter
            )
            return None
        fill_detector_cache(self.cfg, self.checkpointer.model, is_train=True)
        self._batches = iter(build_train_loader(self.cfg, self.start_iter))
        self.model.train()
        try:
            super().train(self.start_iter, self.max_iter)
        finally:
            self._batches = None
        return self._last_results

    def run_step(self) -> None:
        """Run one iteration.

        Raises:
            FloatingPointError: on every rank, if a loss of any rank or the gradient norm is not
                finite. The weights are then still those of the previous iteration.
        """
        start = time.perf_counter()
        batch = next(self._batches)  # type: ignore[arg-type]
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad(set_to_none=True)
        losses = add_gradients(
            self.model,
            batch,
            self.cfg.SOLVER.ACCUMULATE,
            seed=lambda: seed_everything(self.seed, self.iter, comm.get_rank()),
            autocast=lambda: torch.autocast(
                self._device_type, torch.bfloat16, enabled=self._autocast
            ),
        )
        self._log_losses(losses, data_time)
        norm = clip_gradients(
            self.cfg, (p for g in self.optimizer.param_groups for p in g["params"])
        )
        self._check_finite({"the gradient norm": float(norm)})
        self.storage.put_scalar("grad_norm", float(norm))
        self.optimizer.step()

    def build_hooks(self) -> list[HookBase]:
        """Return the hooks in the order in which they run."""
        cfg = self.cfg
        hooks: list[HookBase] = [
            IterationTimer(),
            ScheduleHook(),
            CheckpointHook(
                self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.CHECKPOINTS_KEPT
            ),
        ]
        if cfg.DATASETS.TEST:
            hooks.append(EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate))
        if comm.is_main_process():
            hooks.append(PeriodicWriter(self.build_writers(), period=20))
        return hooks

    def build_writers(self) -> list[EventWriter]:
        """Return the writers of metrics: screen, ``metrics.json``, tensorboard if installed."""
        folder = self.cfg.OUTPUT_DIR
        os.makedirs(folder, exist_ok=True)
        writers: list[EventWriter] = [
            CommonMetricPrinter(self.max_iter),
            JSONWriter(os.path.join(folder, "metrics.json")),
        ]
        # Some versions of the writer import tensorboard only when they write.
        if importlib.util.find_spec("tensorboard"):
            writers.append(TensorboardXWriter(folder))
        else:
            logging.getLogger(__name__).info(
                "tensorboard is not installed: metrics go to metrics.json only"
            )
        return writers

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module) -> OrderedDict:
        """Evaluate a model on every dataset of ``DATASETS.TEST``.

        Args:
            cfg: configuration; ``TEST.AUG.ENABLED`` averages the detections and all kinds of masks
                of a ``GeneralizedRCNNAmodal`` over resized and mirrored images.
            model: the system; its training mode is restored afterwards.

        Returns:
            OrderedDict: dataset name to results, or the results themselves if there is one dataset;
                empty on all
            processes but the main one.

        Raises:
            ValueError: if ``TEST.AUG.ENABLED`` is set and this system has no such average.
        """
        from amodal2.evaluation.build import build_evaluator

        fill_detector_cache(cfg, model, is_train=False)
        results: OrderedDict = OrderedDict()
        tested = _augmented(cfg, model)
        for name in cfg.DATASETS.TEST:
            folder = os.path.join(cfg.OUTPUT_DIR, "inference", name)
            evaluator = build_evaluator(cfg, name, folder)
            found = inference_on_dataset(tested, build_test_loader(cfg, name), evaluator)
            comm.synchronize()
            if comm.is_main_process():
                results[name] = OrderedDict(found or {})
        return next(iter(results.values())) if len(results) == 1 else results

    def _evaluate(self) -> OrderedDict:
        module = (
            self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        )
        self._last_results = self.test(self.cfg, module)
        return self._last_results

    def _log_losses(self, losses: dict[str, torch.Tensor], data_time: float) -> None:
        """Average the losses over the ranks, check them, and put them into the event storage."""
        names = sorted(losses)
        values = torch.stack([losses[name].float() for name in names])
        if comm.get_world_size() > 1:
            dist.all_reduce(values)
            values /= comm.get_world_size()
        means = dict(zip(names, values.tolist(), strict=True))
        self._check_finite(means)
        self.storage.put_scalar("data_time", data_time)
        self.storage.put_scalar("total_loss", sum(means.values()))
        self.storage.put_scalars(**means)

    def _check_finite(self, values: dict[str, float]) -> None:
        bad = {name: value for name, value in values.items() if not np.isfinite(value)}
        if bad:
            terms = ", ".join(f"{name} = {value}" for name, value in bad.items())
            raise FloatingPointError(
                f"AmodalTrainer.run_step: expected finite values at iteration {self.iter}, "
                f"got {terms}; lower SOLVER.BASE_LR, lengthen the warm-up or clip the gradients"
            )

    def _warn_of_initial_values(self) -> None:
        """Name what is neither loaded nor trained, and a fixed detector of other classes."""
        report = self.checkpointer.last_report
        missing = {*report.missing, *(name for name, *_ in report.mismatched)}
        left = Counter(
            name.partition(".")[0]
            for name, parameter in self.checkpointer.model.named_parameters()
            if not parameter.requires_grad and (name in missing or not self.cfg.MODEL.WEIGHTS)
        )
        if left:
            parts = ", ".join(f"{part} ({count})" for part, count in sorted(left.items()))
            logging.getLogger(__name__).warning(
                "Parameters that are not trained keep their initial values, since MODEL.WEIGHTS "
                "has none for them: %s; this is right only for parts that the losses do not use",
                parts,
            )
        detector = [
            parameter
            for name, parameter in self.checkpointer.model.named_parameters()
            if name.startswith("sem_seg_head.")
        ]
        if report.classes and detector and not any(p.requires_grad for p in detector):
            logging.getLogger(__name__).warning(
                "The detector is fixed and comes from weights for %d classes instead of %d, so it "
                "was not trained on these data; train the frame level on them first",
                *report.classes,
            )

    def _set_config_seed(self) -> None:
        self.cfg.defrost()
        self.cfg.SEED = self.seed
        self.cfg.freeze()


def seed_everything(*key: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices) from a tuple of numbers.

    Args:
        *key: non-negative numbers, e.g. seed, iteration and rank.
    """
    words = np.random.SeedSequence(key).generate_state(3, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(int(words[1] >> np.uint64(32)))  # noqa: NPY002 libraries draw from it
    torch.manual_seed(int(words[2] >> np.uint64(1)))


def _augmented(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return what is evaluated: the model, or its average over augmented images."""
    return GeneralizedRCNNAmodalWithTTA(cfg, model) if cfg.TEST.AUG.ENABLED else model


def _check_parts(cfg: CfgNode) -> None:
    parts = comm.get_world_size() * cfg.SOLVER.ACCUMULATE
    if cfg.SOLVER.ACCUMULATE < 1 or cfg.SOLVER.IMS_PER_BATCH % parts:
        raise ValueError(
            "AmodalTrainer: expected SOLVER.ACCUMULATE to split SOLVER.IMS_PER_BATCH = "
            f"{cfg.SOLVER.IMS_PER_BATCH} on {comm.get_world_size()} processes into equal parts, "
            f"got {cfg.SOLVER.ACCUMULATE}"
        )


def _agree_on_seed(seed: int) -> int:
    """Return the seed, or one random seed for all processes if it is negative."""
    if seed >= 0:
        return seed
    return int(comm.all_gather(secrets.randbits(31))[0])
