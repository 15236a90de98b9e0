"""Train and score one row of the aquarium's result table; everything goes on where it was killed.

Folders below the output: ``data`` (the subset), ``detectors`` (the amodal detector and the weights
that runs start from), ``cache`` (detector outputs), ``runs``, ``results`` (one JSON per run).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.aquarium_variants import Variant
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

import amodal2.data.datasets
import amodal2.modeling  # noqa: F401 registers the models
from amodal2.checkpoint.readers import read_weights
from amodal2.checkpoint.zoo_path import PREFIX, shipped_weights
from amodal2.config import get_cfg
from amodal2.data.build import build_test_loader
from amodal2.data.datasets.video_amodal import register_video_amodal_instances
from amodal2.engine import AmodalTrainer, start_run
from amodal2.engine.detector_cache import fill_detector_cache
from amodal2.model_zoo.model_zoo import get_config_file
from amodal2.utils.files import atomic_write, write_json

SOURCE = "aquarium_v1_amodal"
FRAME_CONFIG = "baselines/quick/frame_amodal_aquarium.yaml"
_DETECTOR = ("backbone.", "sem_seg_head.", "criterion.")


@dataclass(frozen=True)
class Plan:
    """What all rows share.

    Args:
        out: folder of everything that is written.
        iterations: of a row with 15 frames per iteration.
        detector_iterations: of the amodal detector, which starts from the visible one.
        size: shorter edge of the network's input in pixels.
        train_videos: the first so many of the training set.
        val_videos: the same of the validation set.
        weights: file with the visible detector and the ``vita_module`` to start from.
        score: lowest score of tracks that count for HOTA, IDF1 and switches.
        threads: of the processor.
    """

    out: Path
    iterations: int = 400
    detector_iterations: int = 200
    size: int = 96
    train_videos: int = 200
    val_videos: int = 60
    weights: str = f"{PREFIX}a2vis_aquarium.safetensors"
    score: float = 0.2
    threads: int = 1

    def dataset(self, split: str) -> str:
        """Return the name of a subset, "train" or "val"."""
        return f"aquarium_v1table_amodal_{split}"

    def result(self, variant: Variant, seed: int) -> Path:
        """Return the file with a run's numbers; it exists once the run is complete."""
        return self.out / "results" / f"{variant.name}_seed{seed}.json"


def register_subsets(plan: Plan) -> None:
    """Write the first videos of the aquarium into the output folder and register them.

    Args:
        plan: of the table.

    Raises:
        ValueError: if the aquarium has fewer videos than the plan wants.
    """
    for split, count in (("train", plan.train_videos), ("val", plan.val_videos)):
        metadata = MetadataCatalog.get(f"{SOURCE}_{split}")
        path = plan.out / "data" / f"{split}_{count}.json"
        if not path.is_file():
            content = json.loads(Path(metadata.json_file).read_text(encoding="utf-8"))
            videos = sorted(content["videos"], key=lambda video: video["id"])[:count]
            if len(videos) < count:
                raise ValueError(
                    f"register_subsets: expected {count} videos in {metadata.json_file}, got "
                    f"{len(videos)}; render more with datasets/prepare_aquarium.py"
                )
            kept = {video["id"] for video in videos}
            tracks = [one for one in content["annotations"] if one["video_id"] in kept]
            write_json(path, {**content, "videos": videos, "annotations": tracks})
        name = plan.dataset(split)
        if name not in DatasetCatalog.list():
            register_video_amodal_instances(name, path, metadata.root)


def shared_options(plan: Plan) -> list[Any]:
    """Return the config keys that all trainings have in common."""
    return [
        *("MODEL.DEVICE", "cpu", "MODEL.TIMM.FREEZE_BN", True, "DATALOADER.NUM_WORKERS", 0),
        *("DATASETS.TRAIN", (plan.dataset("train"),), "DATASETS.TEST", (plan.dataset("val"),)),
        *("INPUT.MIN_SIZE_TRAIN", (plan.size,), "INPUT.MIN_SIZE_TEST", plan.size),
        *("SOLVER.CHECKPOINT_PERIOD", 50, "SOLVER.CHECKPOINTS_KEPT", 1),
        *("TEST.AMODAL.TRACKING_SCORE_THRESHOLD", plan.score),
    ]


def run_options(plan: Plan, variant: Variant, seed: int) -> list[Any]:
    """Return the config keys of one run.

    Args:
        plan: of the table.
        variant: the row.
        seed: of data and random numbers.

    Returns:
        list: keys and values.
    """
    iterations = variant.iterations(plan.iterations)
    cache = str(plan.out / "cache" / variant.detector) if variant.cached else ""
    return [
        *shared_options(plan),
        *("MODEL.WEIGHTS", str(start_file(plan, variant.detector)), "SEED", seed),
        *("MODEL.MASK_FORMER.CACHE_DIR", cache),
        *("INPUT.RANDOM_FLIP", "none", "INPUT.AMODAL.COLOR_JITTER", 0.0),
        *("INPUT.AMODAL.CLIP_LEN", variant.clip_len, "INPUT.AMODAL.NUM_CLIPS", variant.clips),
        *("SOLVER.IMS_PER_BATCH", variant.batch, "SOLVER.MAX_ITER", iterations),
        *("SOLVER.BASE_LR", 0.0005, "SOLVER.WARMUP_ITERS", max(1, iterations // 20)),
        *variant.options,
    ]


def make_config(config: str, options: list[Any], folder: Path) -> CfgNode:
    """Return a config file's contents with other keys and an output folder, frozen."""
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(config))
    cfg.merge_from_list([*options, "OUTPUT_DIR", str(folder)])
    cfg.freeze()
    return cfg


def start_file(plan: Plan, kind: str) -> Path:
    """Return the file with the weights that runs on one kind of detector start from."""
    return plan.out / "detectors" / f"start_{kind}.pth"


def prepare_start(plan: Plan, kind: str) -> None:
    """Make the weights that runs on one kind of detector start from.

    The visible detector is that of the plan's weights, the amodal one the same after
    ``detector_iterations`` on amodal masks of single frames.

    Args:
        plan: of the table.
        kind: "visible" or "amodal".
    """
    torch.set_num_threads(plan.threads)
    if start_file(plan, kind).is_file():
        return
    register_subsets(plan)
    source = plan.weights
    if source.startswith(PREFIX):
        source = str(shipped_weights(source))
    state = read_weights(source)["model"]
    parts = (*_DETECTOR, "vita_module.")
    start = {name: value for name, value in state.items() if name.startswith(parts)}
    if kind == "amodal":
        trained = read_weights(str(train_amodal_detector(plan)))["model"]
        start |= {name: value for name, value in trained.items() if name.startswith(_DETECTOR)}
    with atomic_write(start_file(plan, kind)) as temporary:
        torch.save({"model": {k: torch.as_tensor(v) for k, v in start.items()}}, temporary)


def train_amodal_detector(plan: Plan) -> Path:
    """Train the frame detector on amodal masks and return its weights.

    Args:
        plan: of the table.
    """
    folder = plan.out / "detectors" / "amodal"
    options = [
        *shared_options(plan),
        *("MODEL.WEIGHTS", plan.weights, "SOLVER.MAX_ITER", plan.detector_iterations),
        *("SOLVER.BASE_LR", 0.0002, "SOLVER.WARMUP_ITERS", 20),
        *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 512, "DATASETS.TEST", ()),
        *("DATASETS.TRAIN", (f"{SOURCE}_train",)),
    ]
    cfg = make_config(FRAME_CONFIG, options, folder)
    start_run(cfg)
    trainer = AmodalTrainer(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()
    return folder / "model_final.pth"


def run_variant(plan: Plan, variant: Variant, seed: int) -> None:
    """Train and score one row with one seed, and write its numbers.

    Args:
        plan: of the table.
        variant: the row; its start weights exist.
        seed: of data and random numbers.
    """
    torch.set_num_threads(plan.threads)
    register_subsets(plan)
    options = run_options(plan, variant, seed)
    folder = plan.out / "runs" / f"{variant.name}_seed{seed}"
    cfg = make_config(variant.config, options, folder)
    start_run(cfg)
    training = cfg.clone()
    training.defrost()
    training.DATASETS.TEST = ()
    trainer = AmodalTrainer(training)
    trainer.resume_or_load(resume=True)
    fill_detector_cache(cfg, trainer.checkpointer.model, is_train=True)
    begin, first = time.process_time(), trainer.start_iter
    trainer.train()
    seconds, done = time.process_time() - begin, trainer.max_iter - first
    model = trainer.checkpointer.model.eval()
    metrics = AmodalTrainer.test(cfg, model)
    write_json(
        plan.result(variant, seed),
        {
            "variant": variant.name,
            "seed": seed,
            "options": json.loads(json.dumps(options)),
            "metrics": metrics,
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds_per_iteration": seconds / done if done > 0 else None,
            "frames_per_second": measure_speed(cfg),
        },
        indent=1,
    )


def measure_speed(cfg: CfgNode) -> float:
    """Return frames per second of processor time over one video, with the detector.

    Args:
        cfg: of a run; the weights do not matter.
    """
    live = cfg.clone()
    live.defrost()
    live.MODEL.MASK_FORMER.CACHE_DIR = ""
    model = build_model(live).eval()
    (video,) = next(iter(build_test_loader(live, live.DATASETS.TEST[0])))
    model([video])
    begin = time.process_time()
    model([video])
    return len(video["frames"]) / (time.process_time() - begin)
