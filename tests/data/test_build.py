"""Data loaders."""

import multiprocessing
import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from torch.utils.data import DataLoader

from amodal2.data.build import (
    build_test_loader,
    build_train_loader,
    collate_list,
    load_training_dicts,
    start_worker,
)
from amodal2.structures import encode_mask
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


@pytest.fixture
def mixed_cfg(cfg, tmp_path):
    """Two thirds of the samples from single pictures, the rest from the toy's four videos."""
    pictures = []
    for number in (101, 102):
        file = tmp_path / f"{number}.png"
        Image.fromarray(np.full((12, 16, 3), number, np.uint8)).save(file)
        mask = np.zeros((12, 16), dtype=bool)
        mask[3:7, 4:9] = True
        track = {"id": number, "category_id": 0, "iscrowd": 0, "segmentations": [encode_mask(mask)]}
        size = {"height": 12, "width": 16, "length": 1}
        pictures.append(
            {"video_id": number, "file_names": [str(file)], **size, "annotations": [track]}
        )
    DatasetCatalog.register("toy_pictures", lambda: pictures)
    cfg.DATASETS.TRAIN = ("toy_v1_amodal_train", "toy_pictures")
    cfg.DATASETS.DATASET_RATIO = (1.0, 2.0)
    cfg.INPUT.AMODAL.PSEUDO.ENABLED = True
    yield cfg
    DatasetCatalog.remove("toy_pictures")
    MetadataCatalog.pop("toy_pictures", None)


def test_build_train_loader_mixes_videos_and_clips_of_pictures_by_ratio(mixed_cfg):
    batches = list(islice(build_train_loader(mixed_cfg), 60))
    samples = [sample for batch in batches for sample in batch]
    pictures = [sample for sample in samples if sample["video_id"] > 100]
    assert abs(len(pictures) / 120 - 2 / 3) < 3 * (2 / 9 / 120) ** 0.5
    assert len({sample["video_id"] for sample in samples}) == 6
    assert {len(sample["frames"]) for sample in samples} == {3}
    moved = [len({frame.float().mean().item() for frame in s["frames"]}) > 1 for s in pictures]
    assert all(moved)
    assert signature(islice(build_train_loader(mixed_cfg, 58), 2)) == signature(batches[58:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("empty", "expected samples in each of DATASETS.TRAIN.*got none in toy_pictures"),
        ("classes", "expected the classes of toy_v1_amodal_train.*got others in toy_pictures"),
        ("weights", "expected 2 weights of at least 0"),
    ],
)
def test_build_train_loader_mixture_that_does_not_fit_raises(mixed_cfg, change, message):
    if change == "empty":
        DatasetCatalog.remove("toy_pictures")
        DatasetCatalog.register("toy_pictures", list)
    elif change == "classes":
        MetadataCatalog.get("toy_pictures").thing_classes = ["cat"]
    else:
        mixed_cfg.DATASETS.DATASET_RATIO = (1.0,)
    with pytest.raises(ValueError, match=message):
        build_train_loader(mixed_cfg)


def test_build_train_loader_dataset_can_be_pickled(cfg):
    dataset = build_train_loader(cfg).dataset
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3]["frames"], dataset[3]["frames"])


def test_load_training_dicts_filters_videos_without_annotations(cfg, monkeypatch):
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


@pytest.fixture
def patch_cfg(cfg, tmp_path):
    """Return a configuration of object patches of three images: no, one and two objects."""
    pictures = []
    for number, objects in enumerate(([], [1], [2, 3]), start=1):
        file = tmp_path / f"{number}.png"
        Image.fromarray(np.full((12, 12, 3), 40 * number, np.uint8)).save(file)
        picture = {"image_id": number, "file_name": str(file), "height": 12, "width": 12}
        pictures.append(picture | {"annotations": [square(key) for key in objects]})
    DatasetCatalog.register("toy_v1_amodal_patches", lambda: pictures)
    cfg.DATASETS.TRAIN = ("toy_v1_amodal_patches",)
    cfg.INPUT.AMODAL.MAPPER = "ObjectPatchMapper"
    cfg.INPUT.AMODAL.PATCH_SIZE = 16
    yield cfg
    DatasetCatalog.remove("toy_v1_amodal_patches")


def square(number):
    mask = np.zeros((12, 12), dtype=bool)
    mask[number : number + 4, 2:6] = True
    rle, box = encode_mask(mask), [2, number, 4, 4]
    masks = {"visible_segm": rle, "amodal_segm": rle, "visible_bbox": box, "amodal_bbox": box}
    return {"id": number, "category_id": 0, "iscrowd": 0, **masks}


def test_build_test_loader_gives_every_object_once(patch_cfg):
    batches = list(build_test_loader(patch_cfg, "toy_v1_amodal_patches"))
    assert [[(s["image_id"], s["annotation_id"]) for s in batch] for batch in batches] == [
        [(2, 1)],
        [(3, 2)],
        [(3, 3)],
    ]


def test_build_test_loader_leaves_the_global_generator_alone(patch_cfg):
    np.random.seed(1)  # noqa: NPY002, mappers without a seed draw one from it
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    list(build_test_loader(patch_cfg, "toy_v1_amodal_patches"))
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("leave_out_empty", [True, False])
def test_build_train_loader_gives_every_object_once_per_pass(patch_cfg, leave_out_empty):
    patch_cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = leave_out_empty
    batches = islice(build_train_loader(patch_cfg), 3)
    seen = [sample["annotation_id"] for batch in batches for sample in batch]
    assert sorted(seen[:3]) == sorted(seen[3:]) == [1, 2, 3]


def test_load_training_dicts_without_objects_for_the_mapper_raises(patch_cfg):
    DatasetCatalog.remove("toy_v1_amodal_patches")
    crowd = {**square(1), "iscrowd": 1}
    DatasetCatalog.register("toy_v1_amodal_patches", lambda: [{"annotations": [crowd]}])
    with pytest.raises(ValueError, match=r"that ObjectPatchMapper can take \(1 in all\)"):
        load_training_dicts(patch_cfg)
