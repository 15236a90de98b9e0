"""Outputs of a fixed detector: the same losses and tracks, a folder that is filled once."""

from __future__ import annotations

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the models
from amodal2.data.build import build_test_loader, build_train_loader
from amodal2.data.mappers.base import build_mapper
from amodal2.engine import detector_cache
from amodal2.engine.detector_cache import fill_detector_cache
from amodal2.structures.detector_cache import DetectorCache
from tests.engine.toy import make_videos
from tests.modeling.tiny import tiny_config

FIXED = ("INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", (40,), "INPUT.MIN_SIZE_TEST", 48)
BASELINE = ("MODEL.BASELINES.FREEZE_DETECTOR", True, "MODEL.META_ARCHITECTURE")
MODELS = {
    "a2vis": (),
    "aux": ("MODEL.A2VIS.AUX_CLIP_LOSS", True),
    "vita": (*BASELINE, "VITA"),
    "genvis": (*BASELINE, "GenVIS"),
}


@pytest.fixture
def config(tmp_path):
    """Return a function that makes configs of a tiny model on two toy videos."""
    name = "toy_cached_amodal"
    DatasetCatalog.register(name, lambda: make_videos(tmp_path / "data", num_videos=2))

    def make(*changes, folder="cache"):
        return tiny_config(
            *("DATASETS.TRAIN", (name,), "DATASETS.TEST", (name,), "DATALOADER.NUM_WORKERS", 0),
            *("MODEL.MASK_FORMER.CACHE_DIR", folder and str(tmp_path / folder), *FIXED),
            *("SOLVER.IMS_PER_BATCH", 2, "SEED", 3, *changes),
        )

    yield make
    DatasetCatalog.remove(name)


def seeded_model(cfg):
    torch.manual_seed(0)
    return build_model(cfg)


def losses(cfg, model):
    batch = next(iter(build_train_loader(cfg)))
    torch.manual_seed(1)
    return model.train()(batch)


@pytest.mark.parametrize("name", MODELS)
def test_losses_of_the_cache_are_those_of_the_detector(config, name):
    cached, live = config(*MODELS[name]), config(*MODELS[name], folder="")
    model = seeded_model(cached)
    expected = losses(live, model)
    sum(expected.values()).backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    fill_detector_cache(cached, model, is_train=True)
    found = losses(cached, model)
    sum(found.values()).backward()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=5e-3, atol=5e-3)
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained


@pytest.mark.parametrize("name", ["a2vis", "vita", "genvis"])
def test_cached_detector_does_not_run(config, name, monkeypatch):
    cfg = config(*MODELS[name])
    model = seeded_model(cfg)
    for is_train in (True, False):
        fill_detector_cache(cfg, model, is_train=is_train)
    monkeypatch.setattr(model.backbone, "forward", None)
    assert losses(cfg, model)
    (video,) = next(iter(build_test_loader(cfg, cfg.DATASETS.TEST[0])))
    with torch.no_grad():
        (output,) = model.eval()([video])
    assert output["video_id"] == video["video_id"]


@pytest.mark.parametrize("name", ["a2vis", "vita", "genvis"])
def test_scores_of_the_cache_are_those_of_the_detector(config, name):
    cached, live = config(*MODELS[name]), config(*MODELS[name], folder="")
    model = seeded_model(cached).eval()
    fill_detector_cache(cached, model, is_train=False)
    scores = []
    for cfg in (cached, live):
        (video,) = next(iter(build_test_loader(cfg, cfg.DATASETS.TEST[0])))
        with torch.no_grad():
            (output,) = model([video])
        scores.append(sorted(track.score for track in output["prediction"].tracks))
    assert scores[0] == pytest.approx(scores[1], abs=5e-3)


def test_fill_detector_cache_goes_on_where_it_was_killed(config, monkeypatch):
    cfg = config()
    model = seeded_model(cfg)
    real, calls = detector_cache.detect_video, []

    def detect(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(detector_cache, "detect_video", detect)
    with pytest.raises(KeyboardInterrupt):
        fill_detector_cache(cfg, model, is_train=True)
    fill_detector_cache(cfg, model, is_train=True)
    assert len(calls) == 3
    fill_detector_cache(cfg, model, is_train=True)
    assert len(calls) == 3


def test_fill_detector_cache_refuses_another_detector(config):
    cfg = config()
    model = seeded_model(cfg)
    fill_detector_cache(cfg, model, is_train=True)
    with torch.no_grad():
        model.a2vis.global_query_feat.weight.add_(1)
    fill_detector_cache(cfg, model, is_train=True)
    with torch.no_grad():
        model.sem_seg_head.predictor.query_feat.weight[0, 0] += 1
    with pytest.raises(ValueError, match=r"another one \(weights differ\); name another folder"):
        fill_detector_cache(cfg, model, is_train=True)


@pytest.mark.parametrize(
    "changes",
    [
        ("MODEL.A2VIS.FREEZE_DETECTOR", False),
        ("MODEL.A2VIS.TRAIN_LEVEL", "frame"),
        ("MODEL.META_ARCHITECTURE", "MinVIS"),
        ("MODEL.META_ARCHITECTURE", "Mask2FormerVIS"),
    ],
)
def test_fill_detector_cache_of_a_detector_that_is_trained_raises(config, changes):
    cfg = config(*changes)
    with pytest.raises(ValueError, match=r"expected a fixed detector .* got one of \w+ that is tr"):
        fill_detector_cache(cfg, seeded_model(cfg), is_train=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (("INPUT.RANDOM_FLIP", "horizontal"), "INPUT.RANDOM_FLIP horizontal"),
        (("INPUT.CROP.ENABLED", True), "INPUT.CROP.ENABLED True"),
        (("INPUT.AMODAL.COLOR_JITTER", 0.1), r"INPUT.AMODAL.COLOR_JITTER 0\.1"),
        (("INPUT.AMODAL.PSEUDO.ENABLED", True), "INPUT.AMODAL.PSEUDO.ENABLED True"),
        (("INPUT.MIN_SIZE_TRAIN", (40, 48)), r"INPUT.MIN_SIZE_TRAIN \(40, 48\)"),
        (("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", (40, 41)), "range"),
    ],
)
def test_mapper_with_cache_and_moving_frames_raises(config, changes, named):
    with pytest.raises(ValueError, match=rf"expected frames that are always the same .*{named}"):
        build_mapper(config(*changes), is_train=True)


def test_changed_frame_is_not_found_in_the_cache(config, tmp_path):
    cfg = config()
    model = seeded_model(cfg)
    fill_detector_cache(cfg, model, is_train=True)
    (video, _) = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    with open(video["file_names"][0], "ab") as file:
        file.write(b"x")
    mapper = build_mapper(cfg, is_train=True)
    with pytest.raises(FileNotFoundError, match="the frames of this video have changed since"):
        mapper(video, 0)
    fill_detector_cache(cfg, model, is_train=True)
    assert len(mapper(video, 0)["detected"]) == 4


def test_known_outputs_for_a_detector_that_is_trained_raise(config):
    cfg = config()
    fill_detector_cache(cfg, seeded_model(cfg), is_train=True)
    other = seeded_model(config("MODEL.A2VIS.FREEZE_DETECTOR", False))
    with pytest.raises(ValueError, match="expected no known outputs of a detector that is trained"):
        losses(cfg, other)


def test_known_outputs_for_another_padding_raise(config):
    cfg = config()
    model = seeded_model(cfg)
    fill_detector_cache(cfg, model, is_train=True)
    batch = next(iter(build_train_loader(cfg)))
    batch[0]["detected"].fine = batch[0]["detected"].fine[..., 1:]
    with pytest.raises(ValueError, match="put videos of one size into a dataset"):
        model.train()(batch)


def test_cache_refuses_what_half_precision_cannot_hold(config, tmp_path):
    cfg = config()
    fill_detector_cache(cfg, seeded_model(cfg), is_train=True)
    cache = DetectorCache(cfg.MODEL.MASK_FORMER.CACHE_DIR)
    key = next(cache.folder.glob("*.queries.npy")).name.removesuffix(".queries.npy")
    detected = cache.read(key, [0, 0])
    assert len(detected) == 2
    detected.fine = detected.fine.float() + 1e6
    with pytest.raises(ValueError, match=r"expected map within half precision, got up to 1"):
        cache.write("other", detected)
    assert not cache.has("other")
