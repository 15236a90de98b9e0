"""Fill the folder of a fixed detector's outputs before anything reads it."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from torch import nn

from amodal2.data.build import load_training_dicts
from amodal2.data.detections import fixed_size, open_detections
from amodal2.data.lazy_frames import LazyFrames
from amodal2.data.transforms import shortest_edge_size
from amodal2.modeling.mask_classification.padding import pad_to_multiple
from amodal2.modeling.mask_classification.segmenter import VideoSegmenter
from amodal2.structures.detector_cache import DetectedFrames, video_key

_FRAMES = 8  # frames that run at once
_FIXED = ("backbone.", "sem_seg_head.", "pixel_mean", "pixel_std")


def fill_detector_cache(cfg: CfgNode, model: nn.Module, *, is_train: bool) -> None:
    """Compute what ``MODEL.MASK_FORMER.CACHE_DIR`` lacks for the configured datasets.

    What is there already is left alone, so a run that was killed goes on where it was. Several
    processes share the videos. Without the key nothing happens.

    Args:
        cfg: configuration.
        model: with its weights; its training mode is restored.
        is_train: ``DATASETS.TRAIN`` at the training size, or ``DATASETS.TEST`` at the test size.

    Raises:
        ValueError: if the detector is not fixed, the augmentation changes the frames, or the folder
            holds the outputs of another detector.
    """
    cache = open_detections(cfg, is_train=is_train)
    if cache is None:
        return
    if not isinstance(model, VideoSegmenter) or not model.freeze_detector:
        raise ValueError(
            "fill_detector_cache: expected a fixed detector with MODEL.MASK_FORMER.CACHE_DIR, got "
            f"one of {type(model).__name__} that is trained; set TRAIN_LEVEL video and "
            "FREEZE_DETECTOR True, or empty CACHE_DIR"
        )
    layers = cfg.MODEL.VITA.LAST_LAYER_NUM
    if comm.is_main_process():
        cache.bind({"format": 1, "layers": layers, **describe_detector(model)})
    comm.synchronize()
    logger = logging.getLogger(__name__)
    training = model.training
    model.eval()
    written = 0
    # Every process goes through the same list, since the others write while it does.
    for number, (key, frames) in enumerate(_videos(cfg, is_train=is_train)):
        if number % comm.get_world_size() != comm.get_rank() or cache.has(key):
            continue
        cache.write(key, detect_video(model, frames, layers))
        written += 1
        if written % 20 == 0:
            logger.info("Computed the detector's outputs for %d videos, now %s", written, key)
    model.train(training)
    comm.synchronize()


def describe_detector(model: VideoSegmenter) -> dict[str, Any]:
    """Tell a detector from all others.

    Args:
        model: with its weights.

    Returns:
        dict: a fingerprint of the weights and of what precedes them, and the padding.
    """
    digest = hashlib.sha256()
    parts = {**dict(model.named_buffers()), **model.state_dict()}
    for name in sorted(parts):
        if name.startswith(_FIXED):
            tensor = parts[name].detach().cpu().contiguous()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return {"weights": digest.hexdigest(), "size_divisibility": model.size_divisibility}


@torch.no_grad()
def detect_video(model: VideoSegmenter, frames: LazyFrames, layers: int) -> DetectedFrames:
    """Run the detector over a video.

    Args:
        model: in evaluation mode.
        frames: of the video, at the size of the network's input.
        layers: queries are kept of this many decoder layers at the end, as far as there are.

    Returns:
        DetectedFrames: on the model's device.
    """
    queries, maps = [], []
    for start in range(0, len(frames), _FRAMES):
        clip = frames.clip(start, min(start + _FRAMES, len(frames)))
        images = (clip.to(model.device, torch.float32) - model.pixel_mean) / model.pixel_std
        images = pad_to_multiple(images, model.size_divisibility)
        output, fine = model.sem_seg_head(model.backbone(images), predict=False)
        queries.append(output.queries[-layers:])
        maps.append(fine)
    return DetectedFrames(torch.cat(queries, dim=1), torch.cat(maps))


def _videos(cfg: CfgNode, *, is_train: bool) -> Iterator[tuple[str, LazyFrames]]:
    """Yield key and frames of every video of the datasets."""
    if is_train:
        videos = load_training_dicts(cfg)
    else:
        names = cfg.DATASETS.TEST
        videos = list(itertools.chain.from_iterable(DatasetCatalog.get(name) for name in names))
    short, longest = fixed_size(cfg, is_train=is_train)
    for video in videos:
        size = shortest_edge_size(video["height"], video["width"], short, longest)
        source = video.get("file_names") or video["file_name"]
        frames = LazyFrames(source, video["length"], short_edge=short, longest_edge=longest)
        yield video_key(video, size), frames
