"""Test-time adaptation: stopping, restoring, resuming, figures."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from amodal2.data.datasets.video_amodal import load_video_amodal_json
from amodal2.data.synthetic.gum_writer import GumSpec, write_gum_split
from amodal2.engine.adaptation import (
    AdaptationHistory,
    AdaptationSettings,
    VideoAdapter,
    draw_histories,
)
from amodal2.engine.adaptation_lessons import inner_ious
from amodal2.modeling.completion import CropRule
from amodal2.modeling.completion.pcnet import PCNetM
from amodal2.modeling.completion.track_batch import TrackBatch
from amodal2.modeling.savos import SaVos
from amodal2.structures.track import Track
from amodal2.utils.frames import open_frames
from amodal2.utils.optical_flow import open_flow


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    root = tmp_path_factory.mktemp("gum")
    entry = load_video_amodal_json(write_gum_split(GumSpec(frames=5), root, "test", 1), root)[0]
    tracks = [Track(r["id"], 0, 1.0, r["segmentations"]) for r in entry["annotations"]]
    truth = {r["id"]: r["amodal_segmentations"] for r in entry["annotations"]}
    return entry, tracks, truth


def make_model():
    torch.manual_seed(0)
    return SaVos(base=2, rule=CropRule((64, 128), enlarge=1.5, follow="visible")).eval()


def adapt(adapter, video, **options):
    entry, tracks, _ = video
    with open_frames(entry["file_names"]) as source:
        return adapter.adapt("one", source, tracks, open_flow(entry["flow_file"]), **options)


def same(state, other):
    return all(torch.equal(state[key], other[key]) for key in other)


def test_adapt_learns_and_restore_forgets(video):
    model = make_model()
    start = {key: value.clone() for key, value in model.state_dict().items()}
    adapter = VideoAdapter(model, AdaptationSettings(6, learning_rate=1e-2, patience=6))
    history = adapt(adapter, video, truth=video[2])
    assert len(history.loss) == len(history.visible_iou) == len(history.occluded_iou) == 6
    assert history.loss[-1] < history.loss[0]
    assert history.seconds > 0
    assert not same(model.state_dict(), start)
    assert not model.training
    adapter.restore()
    assert same(model.state_dict(), start)


def test_adapt_every_video_starts_from_the_same_weights(video):
    adapter = VideoAdapter(make_model(), AdaptationSettings(2, learning_rate=1e-2))
    assert adapt(adapter, video).loss == adapt(adapter, video).loss


def test_adapt_stops_when_the_visible_iou_stalls(video):
    adapter = VideoAdapter(make_model(), AdaptationSettings(20, learning_rate=0.0, patience=3))
    assert len(adapt(adapter, video).loss) == 4


def test_adapt_continues_after_an_interruption(video, tmp_path):
    settings = AdaptationSettings(4, learning_rate=1e-2, patience=2, least_gain=-1)
    whole = adapt(VideoAdapter(make_model(), settings), video)
    resumable = AdaptationSettings(4, 1e-2, 2, -1, state_dir=tmp_path)
    adapter, steps = VideoAdapter(make_model(), resumable), []

    def stop_in_third(*arguments):
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(1)
        VideoAdapter._step(adapter, *arguments)

    adapter._step = stop_in_third
    with pytest.raises(KeyboardInterrupt):
        adapt(adapter, video)
    again = VideoAdapter(make_model(), resumable)
    np.testing.assert_allclose(adapt(again, video).loss, whole.loss, rtol=1e-6)
    done = VideoAdapter(make_model(), resumable)
    assert adapt(done, video).seconds == again.histories["one"].seconds


def make_eraser_model():
    torch.manual_seed(0)
    return PCNetM(width=1, patch_size=16).eval()


def test_adapt_pcnet_learns_from_erased_objects_and_continues(video, tmp_path):
    settings = AdaptationSettings(6, learning_rate=1e-2, patience=2, least_gain=-1)
    whole = adapt(VideoAdapter(make_eraser_model(), settings), video, truth=video[2])
    assert whole.loss[-1] < whole.loss[0]
    assert len(whole.visible_iou) == 6
    assert whole.occluded_iou == []
    part = AdaptationSettings(2, 1e-2, 2, -1, state_dir=tmp_path)
    adapt(VideoAdapter(make_eraser_model(), part), video)
    state = torch.load(tmp_path / "one.pt", weights_only=True)
    torch.save({**state, "done": False}, tmp_path / "one.pt")
    rest = AdaptationSettings(6, 1e-2, 2, -1, state_dir=tmp_path)
    again = adapt(VideoAdapter(make_eraser_model(), rest), video)
    np.testing.assert_allclose(again.loss, whole.loss, rtol=1e-5)


def test_adapt_pcnet_without_anything_to_erase_does_nothing(video):
    entry, tracks, _ = video
    lone = [Track(99, 0, 1.0, [None] * 5), *tracks]
    adapter = VideoAdapter(make_eraser_model(), AdaptationSettings())
    assert adapt(adapter, (entry, lone, {}), only={99}).loss == []


def test_adapt_without_a_track_of_three_frames_does_nothing(video):
    entry, tracks, _ = video
    short = [Track(1, 0, 1.0, [*tracks[0].visible[:2], None, None, None])]
    adapter = VideoAdapter(make_model(), AdaptationSettings())
    assert adapt(adapter, (entry, short, {})).loss == []


def test_inner_ious_take_inner_frames_and_regions():
    visible = torch.zeros(1, 3, 2, 4)
    visible[..., :2] = 1
    others = torch.zeros_like(visible)
    others[..., 2:] = 1
    amodal = torch.ones_like(visible)
    flow = torch.zeros(1, 3, 2, 2, 4)
    batch = TrackBatch(torch.zeros(1, 3, 3, 2, 4), visible, others, flow, flow, visible, amodal)
    merged = torch.zeros(1, 3, 2, 4)
    merged[:, 0, :, 1:3] = 1  # of frame 1
    seen, hidden = inner_ious(batch, merged)
    assert seen == pytest.approx([0.5], abs=1e-5)
    assert hidden == pytest.approx([0.5], abs=1e-5)


def test_draw_histories_keeps_the_last_value_of_short_ones():
    chart = draw_histories(
        {
            "a": AdaptationHistory([1.0, 1.0], [0.0, 1.0]),
            "b": AdaptationHistory([1.0], [1.0]),
        }
    )
    mean = draw_histories({"a": AdaptationHistory([1.0, 1.0], [0.5, 1.0])})
    assert chart == mean
    assert "fill:none" in ElementTree.fromstring(chart)[0].text  # a file brings its own style


@pytest.mark.parametrize("wrong", [{"max_iterations": 0}, {"patience": 0}, {"clip_len": 2}])
def test_adaptation_settings_wrong_values_raise(wrong):
    with pytest.raises(ValueError, match="AdaptationSettings: expected"):
        AdaptationSettings(**wrong)
