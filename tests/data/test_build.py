"""Data loaders."""

import multiprocessing
import pickle
from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from amodal2.data.build import (
    build_test_loader,
    build_train_loader,
    collate_list,
    load_training_dicts,
    start_worker,
)
from tests.engine.toy import LENGTH, toy_config


@pytest.fixture
def cfg(tmp_path):
    return toy_config(tmp_path / "data", tmp_path / "out", "SOLVER.IMS_PER_BATCH", 2)


def signature(batches):
    return [
        [(s["video_id"], s["frame_indices"], s["sample_seed"], s["frames"].sum().item()) for s in b]
        for b in batches
    ]


def test_build_train_loader_starts_anywhere_in_the_same_stream(cfg):
    whole = signature(islice(build_train_loader(cfg), 5))
    assert signature(islice(build_train_loader(cfg, start_iter=3), 2)) == whole[3:]


def test_build_train_loader_workers_do_not_change_the_samples(cfg):
    alone = signature(islice(build_train_loader(cfg, 1), 3))
    cfg.DATALOADER.NUM_WORKERS = 2
    assert signature(islice(build_train_loader(cfg, 1), 3)) == alone


@pytest.mark.slow
def test_build_train_loader_spawned_worker_gives_the_same_samples(cfg):
    cfg.DATALOADER.NUM_WORKERS = 1
    loader = build_train_loader(cfg)
    spawned = DataLoader(
        loader.dataset,
        batch_sampler=loader.batch_sampler,
        num_workers=1,
        collate_fn=collate_list,
        worker_init_fn=start_worker,
        multiprocessing_context=multiprocessing.get_context("spawn"),
    )
    cfg.DATALOADER.NUM_WORKERS = 0
    assert signature(islice(spawned, 2)) == signature(islice(build_train_loader(cfg), 2))


def test_build_train_loader_dataset_can_be_pickled(cfg):
    dataset = build_train_loader(cfg).dataset
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3]["frames"], dataset[3]["frames"])


def test_load_training_dicts_filters_videos_without_annotations(cfg, monkeypatch):
    from detectron2.data import DatasetCatalog

    DatasetCatalog.remove("toy_v1_amodal_train")
    DatasetCatalog.register("toy_v1_amodal_train", lambda: [{"annotations": []}])
    with pytest.raises(
        ValueError, match=r"none in \['toy_v1_amodal_train'\] that ClipMapper .* \(1 in"
    ):
        load_training_dicts(cfg)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert len(load_training_dicts(cfg)) == 1


def test_build_test_loader_gives_every_video_once(cfg):
    samples = [
        sample for batch in build_test_loader(cfg, "toy_v1_amodal_train") for sample in batch
    ]
    assert [s["video_id"] for s in samples] == [1, 2, 3, 4]
    assert all(len(s["frames"]) == LENGTH for s in samples)


def test_build_test_loader_ranks_share_the_videos(cfg, monkeypatch):
    seen = []
    for rank in range(3):
        monkeypatch.setattr("amodal2.data.build.comm.get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("amodal2.data.build.comm.get_world_size", lambda: 3)
        seen += [b[0]["video_id"] for b in build_test_loader(cfg, "toy_v1_amodal_train")]
    assert seen == [1, 2, 3, 4]
