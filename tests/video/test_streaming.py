"""Streams: what push hands out, rules of identity, saved states, live against recorded."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch

from amodal2.structures.rle import rle_area
from amodal2.video import LivePredictor, Predictor, PredictorSettings
from tests.utils.sample_videos import sample_frame
from tests.video.colour_model import ColourModel, OfflineColourModel
from tests.video.scripted_model import SIZE, ScriptedModel

BOTH = pytest.mark.parametrize("kind", [Predictor, LivePredictor])


def frame(index: int) -> np.ndarray:
    return np.full((*SIZE, 3), 37 * index % 256, np.uint8)


def play(predictor, count: int, first: int = 0) -> list:
    """Push frames one by one, and the end."""
    ready = [item for index in range(first, count) for item in predictor.push(frame(index))]
    return ready + predictor.flush()


def ids(ready) -> list[dict[int, str]]:
    """Reduce frames to {id: V, H}."""
    return [{o.id: "V" if o.visible else "H" for o in item.objects} for item in ready]


def run(kind, script, clip_len=3, model=None, **settings) -> list[dict[int, str]]:
    model = model or ScriptedModel(script, clip_len)
    return ids(play(kind(model, PredictorSettings(**settings)), len(script[0])))


@BOTH
def test_push_hands_a_frame_out_when_its_clip_is_full(kind):
    predictor = kind(ScriptedModel(["VVVVV"]))
    ready = [[item.index for item in predictor.push(frame(index))] for index in range(5)]
    assert ready == [[], [], [0, 1, 2], [], []]
    assert [item.index for item in predictor.flush()] == [3, 4]
    assert predictor.flush() == []


@BOTH
@pytest.mark.parametrize("clip_len", [1, 3, 4])
def test_rule_birth_is_the_first_visible_frame(kind, clip_len):
    assert run(kind, ["HHVH"], clip_len) == [{}, {}, {1: "V"}, {1: "H"}]


@BOTH
def test_rule_birth_amodal_waits_for_enough_visible_pixels(kind):
    found = run(kind, ["HVH"], 1, min_visible_px=1000)
    assert found == [{}, {1: "V"}, {}]


@BOTH
@pytest.mark.parametrize("clip_len", [1, 3, 5])
def test_rule_hidden_object_keeps_its_id_however_long(kind, clip_len):
    script = ["V" + 11 * "H" + "V"]
    assert run(kind, script, clip_len, max_gone_frames=2) == [{1: mark} for mark in script[0]]


@BOTH
@pytest.mark.parametrize("clip_len", [1, 3, 5])
def test_rule_gone_object_keeps_its_id_for_the_limit(kind, clip_len):
    found = run(kind, ["V..VV...V"], clip_len, max_gone_frames=2)
    assert found == [{1: "V"}, {}, {}, {1: "V"}, {1: "V"}, {}, {}, {}, {2: "V"}]


@BOTH
def test_rule_gone_object_without_amodal_masks_is_one_that_is_not_visible(kind):
    model = ScriptedModel(["VHHVHHHV"], amodal=False)
    found = run(kind, ["VHHVHHHV"], model=model, max_gone_frames=2)
    assert [list(item) for item in found] == [[1], [], [], [1], [], [], [], [2]]


@BOTH
def test_rule_without_a_limit_a_slot_is_one_track(kind):
    assert run(kind, ["V" + 20 * "." + "V"])[-1] == {1: "V"}


@BOTH
def test_rule_reappearing_object_must_be_seen_first(kind):
    found = run(kind, ["V..HHV"], max_gone_frames=1)
    assert found == [{1: "V"}, {}, {}, {}, {}, {2: "V"}]


@BOTH
def test_rule_two_lives_in_one_clip_have_two_ids(kind):
    found = run(kind, ["V.V", "VVV"], max_gone_frames=0)
    before, between, after = (set(item) for item in found)
    assert before | after == {1, 2, 3}
    assert before & after == between
    assert len(between) == 1


@BOTH
def test_rule_ids_count_in_the_order_of_reports(kind):
    found = run(kind, ["...VVVV", "V..VVVV", "......V"])
    assert [len(item) for item in found] == [1, 0, 0, 2, 2, 2, 3]
    assert [max(item, default=0) for item in found] == [1, 0, 0, 2, 2, 2, 3]


@BOTH
def test_rule_track_below_the_threshold_keeps_its_id(kind):
    def scores(done: int) -> torch.Tensor:
        return torch.tensor([[0.9], [0.2 if done == 6 else 0.8]])

    model = ScriptedModel(["VVVVVVVVV", "VVVVVVVVV"], scores=scores)
    found = run(kind, [9 * "V"], model=model, score_threshold=0.5, max_gone_frames=1)
    assert [sorted(item) for item in found] == 3 * [[1, 2]] + 3 * [[1]] + 3 * [[1, 2]]


def test_live_slot_that_is_gone_while_not_chosen_gets_a_new_id():
    def scores(done: int) -> torch.Tensor:
        return torch.tensor([[0.2 if done == 6 else 0.8]])

    for line, last in (("VVVVVVVVV", 1), ("VVV...VVV", 2), ("VVVHHHVVV", 1)):
        model = ScriptedModel([line], scores=scores)
        found = run(LivePredictor, [line], model=model, score_threshold=0.5, max_gone_frames=1)
        assert [sorted(item) for item in found] == 3 * [[1]] + 3 * [[]] + 3 * [[last]]


def test_finish_has_the_ids_that_push_gave():
    script = ["V...VV", "VVVVVV", ".VVVVV"]
    predictor = Predictor(ScriptedModel(script), PredictorSettings(max_gone_frames=1))
    pushed = ids(play(predictor, 6))
    with predictor.finish() as tracks:
        assert ids_of(tracks) == pushed
        assert sorted(track.id for track in tracks) == [1, 2, 3, 4]
        prediction = tracks.to_prediction(1)
    spans = {
        track.id: "".join("." if rle is None else "V" for rle in track.visible)
        for track in prediction.tracks
    }
    assert sorted(spans.values()) == sorted(["V.....", "....VV", "VVVVVV", ".VVVVV"])


def ids_of(tracks) -> list[dict[int, str]]:
    return [{o.id: "V" if o.visible else "H" for o in objects} for objects in tracks.frames()]


def test_finish_ended_track_keeps_the_class_of_the_last_clip_that_showed_it():
    def scores(done: int) -> torch.Tensor:
        return torch.tensor([[0.9, 0.1] if done <= 3 else [0.1, 0.6]])

    predictor = Predictor(
        ScriptedModel(["VV......VVV"], scores=scores), PredictorSettings(max_gone_frames=4)
    )
    play(predictor, 11)
    with predictor.finish() as tracks:
        assert [(track.id, track.category_id) for track in tracks] == [(1, 0), (2, 1)]


def test_finish_ended_tracks_do_not_pile_up():
    line = 60 * "V."
    predictor = Predictor(
        ScriptedModel([line, line]), PredictorSettings(max_gone_frames=0, top_k=4)
    )
    play(predictor, len(line))
    state = predictor.state_dict()
    assert len(state["masks"]["ended"]) <= 4
    assert len(state["ids"]["ids"]) <= 6
    with predictor.finish() as tracks:
        assert len(tracks) == 4


FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "half": lambda logits: logits.half(),
    "bfloat16": lambda logits: logits.bfloat16(),
    "transposed": lambda logits: logits.half().float().mT.contiguous().mT,
    "frames-first": lambda x: x.half().float().transpose(0, 1).contiguous().transpose(0, 1),
    "part": lambda logits: torch.cat([logits.half().float()] * 2, -1)[..., : logits.shape[-1]],
}


@BOTH
@pytest.mark.parametrize("form", FORMS)
def test_results_do_not_depend_on_how_logits_are_stored(kind, form):
    script = ["VVHHV..", "VVVVVVV", "HV.VVVV"]
    dtype = torch.bfloat16 if form == "bfloat16" else torch.half
    plain = ScriptedModel(script, form=lambda logits: logits.to(dtype).float().contiguous())
    other = ScriptedModel(script, form=FORMS[form])
    assert play(kind(other), 7) == play(kind(plain), 7)


@BOTH
@pytest.mark.parametrize("sizes", [(7,), (1, 5, 1), (2, 2, 2, 1)])
def test_results_do_not_depend_on_how_frames_arrive(kind, sizes):
    script = ["VVHHV..", "VVVVVVV"]
    expected = play(kind(ScriptedModel(script)), 7)
    predictor = kind(ScriptedModel(script))
    frames = np.stack([frame(index) for index in range(7)])
    ready = []
    for part in np.split(frames, np.cumsum(sizes)[:-1]):
        ready += predictor.push(part)
    assert ready + predictor.flush() == expected


@pytest.mark.parametrize("max_gone", [None, 1])
def test_live_with_all_slots_equals_recorded(max_gone):
    script = ["VVHHV..VV", "VVVVVVVVV", "HV.VV...V", ".V.V.V.V."]
    settings = PredictorSettings(max_gone_frames=max_gone, top_k=50)
    live = play(LivePredictor(ScriptedModel(script), settings), 9)
    assert live == play(Predictor(ScriptedModel(script), settings), 9)
    assert sum(len(item.objects) for item in live) > 20


def test_live_resamples_only_the_chosen_slots(monkeypatch):
    from amodal2.structures.box_resampler import BoxResampler

    counts = []
    real = BoxResampler.resample
    monkeypatch.setattr(
        BoxResampler, "resample", lambda self, *args: counts.append(1) or real(self, *args)
    )
    script = 9 * ["VVV"]
    for settings, slots in ((PredictorSettings(top_k=2), 2), (PredictorSettings(), 9)):
        counts.clear()
        found = play(LivePredictor(ScriptedModel(script), settings), 3)
        assert [len(item.objects) for item in found] == 3 * [slots]
        # Each of two kinds of masks is resampled to the output and to the input size.
        assert len(counts) == slots * 3 * 4


def test_settings_classes_leave_out_other_tracks():
    script = ["VVV", "VVV", "VVV"]
    settings = PredictorSettings(category_ids=[10, 20, 30], classes={10, 30}, top_k=2)
    for kind in (Predictor, LivePredictor):
        found = play(kind(ScriptedModel(script), settings), 3)
        assert [sorted(o.category_id for o in item.objects) for item in found] == 3 * [[10, 30]]


def saved(predictor):
    """Save a state to a file and read it back without unpickling code."""
    file = io.BytesIO()
    torch.save(predictor.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@BOTH
@pytest.mark.parametrize("stop", [0, 1, 3, 5, 9])
def test_restored_predictor_goes_on_with_the_same_bits(kind, stop):
    script = ["VVHHV...VVVV", "VVVVVVVVVVVV", "HV...V...VVV"]
    settings = PredictorSettings(max_gone_frames=2, short_edge=20, top_k=5)
    whole, first = (kind(ScriptedModel(script), settings) for _ in range(2))
    expected = play(whole, 12)
    ready = [item for index in range(stop) for item in first.push(frame(index))]
    state = saved(first)
    for index in range(stop, 12):  # a state is a copy: going on does not change it
        first.push(255 - frame(index))
    other = kind(ScriptedModel(script), settings)
    other.push(frame(1))
    other.load_state_dict(state)
    assert ready + play(other, 12, stop) == expected
    ends = [saved(predictor) for predictor in (whole, other)]
    assert torch.equal(*(end["model"][2]["trace"] for end in ends))
    assert torch.equal(*(end["masks"]["lives"]["probability"] for end in ends))
    if kind is Predictor:
        with whole.finish() as tracks, other.finish() as restored:
            assert list(restored) == list(tracks)
            assert restored.to_prediction(1) == tracks.to_prediction(1)


@BOTH
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 3}, "top_k 3, got 20"),
        ({"classes": {1, 0}}, r"classes \[0, 1\], got None"),
        ({"clip_len": 4}, "clip_len 4, got 3"),
        ({"kind": True}, "kind '.*Predictor', got '.*Predictor'"),
    ],
    ids=["setting", "classes", "clip-length", "kind"],
)
def test_load_state_dict_of_another_predictor_is_refused(kind, change, message):
    state = saved(kind(ScriptedModel(["V"])))
    other = {Predictor: LivePredictor, LivePredictor: Predictor}[kind]
    changed = dict(change)
    model = ScriptedModel(["V"], changed.pop("clip_len", 3))
    new = other if changed.pop("kind", False) else kind
    with pytest.raises(ValueError, match=message):
        new(model, PredictorSettings(**changed)).load_state_dict(state)


@BOTH
@pytest.mark.slow
def test_what_is_kept_does_not_grow_with_the_stream(kind):
    script = ["V..", "VVH", "H.V", "..."]
    sizes, counts = [], []
    for frames in (30, 3000):
        predictor = kind(
            ScriptedModel(
                [line * (frames // 3) for line in script],
                scores=lambda done: torch.full((4, 2), 0.5),
            ),
            PredictorSettings(max_gone_frames=1, top_k=5),
        )
        for index in range(frames):
            predictor.push(frame(index))
        state = predictor.state_dict()
        del state["model"]  # the script's history, which is the model's own affair
        if kind is Predictor:
            file = state["masks"].pop("masks")  # what lies on the disk, and 16 bytes per clip
            assert len(file["ends"]) == frames // 3
        content = io.BytesIO()
        torch.save(state, content)
        sizes.append(content.tell())
        counts.append(len(state["ids"]["ids"]))
    assert abs(sizes[1] - sizes[0]) < 256  # numbers have more digits
    assert counts[0] == counts[1]


def test_live_offline_model_is_refused_at_its_first_clip():
    predictor = LivePredictor(OfflineColourModel(2))
    predictor.push(sample_frame(0))
    with pytest.raises(ValueError, match="needs the whole video; use Predictor"):
        predictor.push(sample_frame(1))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((4, 6), np.uint8), ValueError, r"frames \[H, W, 3\], got shape \(4, 6\)"),
        (np.zeros((4, 6, 3), np.float32), TypeError, "frames of uint8, got float32"),
    ],
)
def test_push_what_is_no_frame_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        Predictor(ColourModel()).push(value)


def test_masks_are_those_of_the_script():
    ready = play(Predictor(ScriptedModel(["VH"])), 2)
    (seen,), (hidden,) = (item.objects for item in ready)
    assert 0 < rle_area(seen.visible) < rle_area(seen.amodal)
    assert hidden.visible is None
    assert rle_area(hidden.amodal) > rle_area(seen.visible)
