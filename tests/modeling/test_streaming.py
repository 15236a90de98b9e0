"""Real models on streams: saved states, live against recorded."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the models
from amodal2.video import LivePredictor, Predictor, PredictorSettings
from tests.modeling.baselines.cases import CASES
from tests.modeling.tiny import make_sample, tiny_config

ONLINE = ("a2vis", "genvis_online", "genvis_cap", "minvis", "genvis_amodal")
SETTINGS = PredictorSettings(max_gone_frames=1, top_k=6)


def build(case: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_config(*CASES.get(case, ()))).eval()


def frames() -> np.ndarray:
    return make_sample(0, frames=7, size=(60, 80))["frames"].permute(0, 2, 3, 1).numpy()


def saved(predictor) -> dict:
    file = io.BytesIO()
    torch.save(predictor.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("kind", [Predictor, LivePredictor])
@pytest.mark.parametrize("case", ONLINE)
def test_restored_predictor_goes_on_with_the_same_bits(case, kind):
    model, video = build(case), frames()
    whole, first, other = (kind(model, SETTINGS) for _ in range(3))
    expected = whole.push(video) + whole.flush()
    ready = first.push(video[:5])
    other.load_state_dict(saved(first))
    assert ready + other.push(video[5:]) + other.flush() == expected
    assert any(item.objects for item in expected)


@pytest.mark.parametrize("case", ONLINE)
def test_live_with_all_slots_equals_recorded(case):
    model, video = build(case), frames()
    settings = PredictorSettings(max_gone_frames=1, top_k=100, mask_quality=case != "minvis")
    live, recorded = (kind(model, settings) for kind in (LivePredictor, Predictor))
    assert live.push(video) + live.flush() == recorded.push(video) + recorded.flush()


@pytest.mark.parametrize("case", ["vita", "mask2former_vis"])
def test_models_that_need_the_whole_video_say_what_they_cannot(case):
    model, video = build(case), frames()
    predictor = Predictor(model)
    assert predictor.push(video) == []
    with pytest.raises(TypeError, match="this model's state cannot be saved"):
        predictor.state_dict()
    with pytest.raises(ValueError, match="needs the whole video; use Predictor"):
        LivePredictor(model).push(video)
    with predictor.finish() as tracks:
        assert tracks.length == 7
