"""Inference of the baselines: tracks of one kind, clips, windows, scores, long videos."""

from typing import Any

import pytest
import torch

from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.track import VideoPrediction
from amodal2.structures.video_json import VideoDataset
from amodal2.video.predictor import PredictorSettings, predict_video
from tests.modeling.baselines.cases import build
from tests.modeling.tiny import ArrayFrames, make_sample

_ALL = (
    *("vita", "vita_fixed", "genvis", "genvis_online", "genvis_cap", "minvis", "mask2former_vis"),
    *("vita_amodal", "genvis_amodal", "mask2former_amodal"),
)


def predict(model: torch.nn.Module, length: int = 5) -> VideoPrediction:
    sample = make_sample(0, frames=length, size=(60, 80))
    video = {**sample, "frames": ArrayFrames(sample["frames"]), "length": length}
    (output,) = model.eval()([video])
    return output["prediction"]


def content(prediction: VideoPrediction) -> list[tuple[Any, ...]]:
    return [(t.category_id, round(t.score, 5), t.visible, t.amodal) for t in prediction.tracks]


@pytest.mark.parametrize("case", _ALL)
def test_baseline_tracks_are_the_same_by_evaluator_and_predictor(case: str) -> None:
    model = build(case)
    expected = predict(model)
    frames = make_sample(0, frames=5, size=(60, 80))["frames"]
    stream = ((frame.permute(1, 2, 0).numpy(), 0.0) for frame in frames)
    # The demo keeps one class per slot, the evaluator all pairs.
    best: dict[Any, Any] = {}
    for track in sorted(expected.tracks, key=lambda t: -t.score):
        best.setdefault(str(track.visible or track.amodal), track)
    with predict_video(model, stream, PredictorSettings()) as tracks:
        found = tracks.to_prediction(0)
    assert (found.length, found.height, found.width) == (5, 60, 80)
    assert content(found) == content(
        VideoPrediction(0, 60, 80, 5, sorted(best.values(), key=lambda t: -t.score))
    )
    amodal = case.endswith("amodal")
    assert found.tracks
    assert all((t.visible is None) == amodal for t in found.tracks)
    assert all((t.amodal is None) != amodal for t in found.tracks)


@pytest.mark.parametrize("case", ["vita", "mask2former_vis"])
def test_offline_model_clip_length_does_not_change_the_tracks(case: str) -> None:
    results = [content(predict(build(case, "INPUT.AMODAL.CLIP_LEN", n))) for n in (1, 2, 7)]
    assert results[0]
    assert results[0] == results[1] == results[2]


def test_mask2former_vis_one_window_equals_the_whole_video() -> None:
    whole = content(predict(build("mask2former_vis")))
    window = content(predict(build("mask2former_vis", "MODEL.MASK2FORMER_VIS.TEST_WINDOW", 5)))
    halves = content(predict(build("mask2former_vis", "MODEL.MASK2FORMER_VIS.TEST_WINDOW", 3)))
    assert whole == window
    assert halves
    assert whole != halves


def test_minvis_window_does_not_change_the_tracks() -> None:
    results = [content(predict(build("minvis", "MODEL.MINVIS.TEST_WINDOW", n))) for n in (1, 2, 30)]
    assert results[0]
    assert results[0] == results[1] == results[2]


def test_minvis_score_decay_follows_the_latest_frames() -> None:
    model = build("minvis", "MODEL.MINVIS.SCORE_DECAY", 1e-6).eval()
    frames = make_sample(0)["frames"]
    with torch.no_grad():
        _, state = model.forward_clip(frames, model.start())
        output, _ = model._detect(model._prepare_clip(frames[-1:])[0], predict=True)
    last = output.predictions[-1].class_logits[0].softmax(-1)[:, :-1]
    assert sorted(model.class_scores(state).max(1).values.tolist()) == pytest.approx(
        sorted(last.max(1).values.tolist()), abs=1e-4
    )


def test_genvis_scores_are_the_best_of_all_clips() -> None:
    model = build("genvis").eval()
    frames, state = make_sample(0)["frames"], model.start()
    before = torch.zeros(5, 3)
    for start in (0, 2):
        _, state = model.forward_clip(frames[start : start + 2], state)
        scores = model.class_scores(state)
        assert (scores >= before).all()
        before = scores
    assert state.memory.keys.shape == (2, 1, 5, 32)


@pytest.mark.parametrize("case", ["vita", "genvis", "minvis", "mask2former_vis"])
def test_class_scores_before_any_clip_says_so(case: str) -> None:
    model = build(case).eval()
    with pytest.raises(ValueError, match="after at least one clip"):
        model.class_scores(model.start())


def test_vita_scores_grow_with_the_frames_and_masks_come_at_the_end() -> None:
    model = build("vita").eval()
    frames, state = make_sample(0)["frames"], model.start()
    output, state = model.forward_clip(frames[:2], state)
    early = model.class_scores(state)
    _, state = model.forward_clip(frames[2:], state)
    assert output is None
    assert not torch.equal(early, model.class_scores(state))
    clips = list(model.finish_clips(state))
    assert [clip.num_frames for clip in clips] == [2, 2]
    assert list(model.finish_clips(state)) == []


def test_class_score_alone_where_mask_quality_is_off() -> None:
    model = build("minvis", "TEST.AMODAL.MASK_QUALITY", False)
    prediction = predict(model)
    frames = make_sample(0, frames=5, size=(60, 80))["frames"]
    _, state = model.forward_clip(frames, model.start())
    best = model.class_scores(state).flatten().topk(len(prediction.tracks)).values
    assert [t.score for t in prediction.tracks] == pytest.approx(best.tolist(), abs=1e-5)


@pytest.mark.parametrize(("case", "kind"), [("vita", "visible"), ("vita_amodal", "amodal")])
def test_evaluator_reports_the_predicted_kind_alone(case: str, kind: str) -> None:
    records = predict(build(case)).to_annotations()
    truth = records[0]
    key = "segmentations" if kind == "visible" else "amodal_segmentations"
    track = {
        "id": 1,
        "video_id": truth["video_id"],
        "category_id": truth["category_id"],
        "iscrowd": 0,
        "segmentations": truth[key],
        "amodal_segmentations": truth[key],
    }
    for name in ("areas", "amodal_areas"):
        track[name] = [None if m is None else 100 for m in truth[key]]
    video = {"id": truth["video_id"], "length": 5, "height": 60, "width": 80, "file_name": "a.mp4"}
    categories = [{"id": i, "name": str(i)} for i in range(3)]
    dataset = VideoDataset("truth.json", [video], categories, [track])
    report = evaluate_video_tracks(dataset, records, metrics=("ap", "hota"))
    assert set(report.rows) == {kind}
    assert set(report.tracking) == {kind}
    assert report.rows[kind].percent()["AP"] > 0


@pytest.mark.parametrize("case", ["vita", "mask2former_vis"])
def test_offline_model_keeps_no_mask_features_in_memory(case: str) -> None:
    model = build(case).eval()
    frames, state = make_sample(0)["frames"], model.start()
    for start in range(4):
        _, state = model.forward_clip(frames[start : start + 1], state)
    if case == "vita":
        held = state.queries
        assert sum(x.numel() for x in held) == 4 * 6 * 32  # T * fQ * C
        file = state.features
    else:
        held = [x for keys in state.waiting.keys for x in (*keys.memories, *keys.small_features)]
        assert max(x.shape[2] for x in held) == 8 * 12  # stride 8 at most
        file = state.waiting.features
    assert [tuple(x.shape) for x in file.read()] == [(1, 32, 16, 24)] * 4
    file.close()
