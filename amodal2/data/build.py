"""Data loaders for training and testing."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, MetadataCatalog
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from amodal2.data.mappers.base import Mapper, build_mapper, expand_dicts
from amodal2.data.mappers.object_patch import repeat_hidden
from amodal2.data.samplers import MixedStream, PositionBatchSampler, TrainingStream


class MappedStream(Dataset):
    """The mapped training samples, addressed by their position in the endless stream."""

    def __init__(self, items: Any, mapper: Mapper, stream: TrainingStream | MixedStream) -> None:
        """Store the parts.

        Args:
            items: sequence of dataset dicts.
            mapper: called as ``mapper(dataset_dict, sample_seed)``.
            stream: which of the items, and which seed, a position has.
        """
        self.items = items
        self.mapper = mapper
        self.stream = stream

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return the sample at a position; the same one in every process."""
        item = self.items[self.stream.index(position)]
        return self.mapper(item, self.stream.sample_seed(position))


class MappedTestSamples(Dataset):
    """The mapped test samples: videos, images or objects, as the mapper takes them."""

    def __init__(self, items: list[dict[str, Any]], mapper: Mapper) -> None:
        """Store dataset dicts and mapper."""
        self.items = items
        self.mapper = mapper

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the mapped sample, the same one each time."""
        return self.mapper(self.items[index], 0)


def load_training_dicts(cfg: CfgNode) -> list[dict[str, Any]]:
    """Load the dicts of ``DATASETS.TRAIN``, one list after the other, and expand them.

    Videos and images without any annotation are left out if
    ``DATALOADER.FILTER_EMPTY_ANNOTATIONS``; the others become one dict per sample of the mapper.

    Args:
        cfg: configuration.

    Returns:
        list[dict]: at least one.

    Raises:
        ValueError: if nothing is left.
    """
    return list(itertools.chain.from_iterable(_load_training_sets(cfg)))


def _load_training_sets(cfg: CfgNode) -> list[list[dict[str, Any]]]:
    """Load the dicts of each of ``DATASETS.TRAIN``; see :func:`load_training_dicts`."""
    names = list(cfg.DATASETS.TRAIN)
    sets, used, total = [], 0, 0
    for name in names:
        dicts = DatasetCatalog.get(name)
        total += len(dicts)
        if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            dicts = [item for item in dicts if item.get("annotations")]
        used += len(dicts)
        repeats = cfg.INPUT.AMODAL.PATCH_HIDDEN_REPEAT
        sets.append(repeat_hidden(expand_dicts(cfg, dicts), repeats))
    if not any(sets):
        raise ValueError(
            f"load_training_dicts: expected annotated videos or images in DATASETS.TRAIN, got none "
            f"in {names} that {cfg.INPUT.AMODAL.MAPPER} can take ({total} in all)"
        )
    logging.getLogger(__name__).info(
        "Training on %d samples of %d of the %d videos or images of %s",
        sum(map(len, sets)),
        used,
        total,
        names,
    )
    return sets


def _make_stream(cfg: CfgNode, sizes: Sequence[int]) -> TrainingStream | MixedStream:
    """Order the samples of the training sets as ``DATASETS.DATASET_RATIO`` says."""
    if not cfg.DATASETS.DATASET_RATIO:
        return TrainingStream(sum(sizes), cfg.SEED)
    names = list(cfg.DATASETS.TRAIN)
    classes = [MetadataCatalog.get(name).get("thing_classes") for name in names]
    for name, size, own in zip(names, sizes, classes, strict=True):
        if not size:
            raise ValueError(
                f"build_train_loader: expected samples in each of DATASETS.TRAIN that "
                f"DATASETS.DATASET_RATIO mixes, got none in {name}"
            )
        if own != classes[0]:
            raise ValueError(
                f"build_train_loader: expected the classes of {names[0]} in all of DATASETS.TRAIN "
                f"that DATASETS.DATASET_RATIO mixes, got others in {name}; write both annotation "
                "files with one list of categories"
            )
    return MixedStream(sizes, cfg.DATASETS.DATASET_RATIO, cfg.SEED)


def build_train_loader(cfg: CfgNode, start_iter: int = 0) -> DataLoader:
    """Build the endless training loader.

    Args:
        cfg: configuration; ``SEED`` must be set (non-negative).
        start_iter: first iteration, i.e. batches of the stream that are skipped.

    Returns:
        DataLoader: yields lists of ``SOLVER.IMS_PER_BATCH / processes`` samples, which do not
        depend on ``DATALOADER.NUM_WORKERS``.

    Raises:
        ValueError: if a dataset has no samples or other classes, or the weights do not fit, where
            ``DATASETS.DATASET_RATIO`` mixes datasets.
    """
    workers = cfg.DATALOADER.NUM_WORKERS
    sets = _load_training_sets(cfg)
    dicts = list(itertools.chain.from_iterable(sets))
    # Workers read pickled bytes: reference counts of shared Python objects would copy the pages.
    items = DatasetFromList(dicts, copy=False, serialize=True) if workers > 0 else dicts
    batches = PositionBatchSampler(
        cfg.SOLVER.IMS_PER_BATCH,
        start_batch=start_iter,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
    return DataLoader(
        MappedStream(
            items, build_mapper(cfg, is_train=True), _make_stream(cfg, [len(x) for x in sets])
        ),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate_list,
        worker_init_fn=start_worker,
    )


def build_test_loader(cfg: CfgNode, name: str) -> DataLoader:
    """Build the loader of one test dataset.

    Args:
        cfg: configuration.
        name: registered dataset name.

    Returns:
        DataLoader: yields lists of one mapped sample; each rank sees a contiguous share. The frames
        of videos are decoded when the model asks for them, so there are no workers.
    """
    dicts = expand_dicts(cfg, DatasetCatalog.get(name))
    rank, world_size = comm.get_rank(), comm.get_world_size()
    share = dicts[len(dicts) * rank // world_size : len(dicts) * (rank + 1) // world_size]
    return DataLoader(
        MappedTestSamples(share, build_mapper(cfg, is_train=False)),
        batch_size=1,
        shuffle=False,
        num_workers=0,
        collate_fn=collate_list,
    )


def collate_list(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the batch as the list it is: samples differ in size."""
    return batch


def start_worker(worker_id: int) -> None:
    """Keep a worker process to one thread, whatever the parent uses."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
