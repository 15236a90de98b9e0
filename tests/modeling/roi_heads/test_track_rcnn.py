"""MaskTrack R-CNN with an amodal head: embeddings, linking, training and tracks."""

import json
import math
from contextlib import closing

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage

from amodal2.modeling.roi_heads.track_linking import (
    LinkWeights,
    TrackLinker,
    match_logits,
    track_loss,
)
from amodal2.modeling.roi_heads.track_rcnn import frame_objects
from amodal2.video import Predictor, PredictorSettings
from tests.conftest import load_script
from tests.engine.toy import restored_loggers
from tests.modeling.roi_heads.tiny import tiny_config
from tests.modeling.tiny import ArrayFrames, make_sample
from tests.utils.sample_videos import make_video


def build(head="AISFormer", *changes):
    keys = ["MODEL.META_ARCHITECTURE", "AmodalTrackRCNN", "MODEL.TRACK_RCNN.HIDDEN_DIM", 32]
    return build_model(tiny_config(head, *keys, *changes))


def clip_sample(seed=0):
    """Return a training sample of four frames with boxes, as the clip mapper makes it."""
    sample = make_sample(seed)
    for frame in sample["instances"]:
        for kind in ("visible", "amodal"):
            masks = frame.get(f"gt_{kind}_masks")
            boxes = torch.zeros(len(masks), 4)
            for i, mask in enumerate(masks):
                if mask.any():
                    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
                    corners = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
                    boxes[i] = torch.tensor([float(corner) for corner in corners])
            frame.set(f"gt_{kind}_boxes", Boxes(boxes))
    return sample


def test_track_loss_looks_for_the_own_object():
    found = torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, -5.0]])
    known = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    logits = match_logits(found, known)
    assert logits.tolist() == [[0.0, 0.0, 6.0], [0.0, 6.0, 0.0], [0.0, -10.0, 0.0]]
    loss = track_loss(logits, torch.tensor([7, 4, 9]), torch.tensor([4, 7]))
    right = math.log(1 + 2 * math.exp(-6))
    third = math.log(2 + math.exp(-10))
    assert loss.item() == pytest.approx((2 * right + third) / 3, rel=1e-4)
    assert track_loss(logits[:0], torch.zeros(0), torch.tensor([4, 7])).item() == 0


def link(linker, *rows):
    """Link detections given as (left edge, class, score, embedding)."""
    boxes = torch.tensor([[left, 0.0, left + 10.0, 10.0] for left, *_ in rows]).view(-1, 4)
    classes = torch.tensor([row[1] for row in rows], dtype=torch.int64)
    scores = torch.tensor([row[2] for row in rows])
    embeddings = torch.tensor([row[3] for row in rows]).view(-1, 2)
    return linker(boxes, classes, scores, embeddings).tolist()


ONE, OTHER = (9.0, 0.0), (0.0, 9.0)


def test_linker_follows_embeddings_through_gaps():
    linker = TrackLinker(LinkWeights())
    assert link(linker, (0.0, 0, 0.9, ONE), (50.0, 0, 0.9, OTHER)) == [1, 2]
    assert link(linker, (52.0, 0, 0.9, OTHER), (2.0, 0, 0.8, ONE)) == [2, 1]
    assert link(linker) == []
    assert link(linker, (70.0, 0, 0.9, OTHER)) == [2]
    assert link(linker, (30.0, 0, 0.9, (-9.0, -9.0))) == [3]


def test_linker_gives_a_track_its_best_detection_only():
    linker = TrackLinker(LinkWeights())
    link(linker, (0.0, 0, 0.9, ONE))
    assert link(linker, (20.0, 0, 0.5, ONE), (1.0, 0, 0.6, ONE)) == [0, 1]


def test_linker_weighs_class_overlap_and_score():
    # An ambiguous embedding: only the class, the box or the score can decide.
    for weights, expected in ((LinkWeights(0, 0, 10.0), 2), (LinkWeights(0, 9.0, 0), 1)):
        linker = TrackLinker(weights)
        link(linker, (0.0, 0, 0.9, (1.0, 0.0)), (50.0, 1, 0.9, (1.0, 1e-3)))
        assert link(linker, (0.0, 1, 0.9, (5.0, 0.0))) == [expected]


def test_frame_objects_drop_what_is_absent_and_find_occluders():
    truth = clip_sample()["instances"][1]
    truth.gt_amodal_masks[0] = False
    assert frame_objects(truth).gt_ids.tolist() == [2]
    objects = frame_objects(clip_sample()["instances"][1])
    assert torch.equal(objects.gt_boxes.tensor, objects.gt_amodal_boxes.tensor)
    front, back = objects.gt_amodal_masks
    assert torch.equal(objects.gt_occluder_masks[1], front & back)


@pytest.mark.parametrize("head", ["AISFormer", "AmodalMaskRCNNHead"])
def test_track_rcnn_trains(head):
    model = build(head)
    with EventStorage():
        losses = model([clip_sample(), clip_sample(1)])
    assert {"loss_track", "loss_cls", "loss_rpn_cls", "loss_amodal_mask"} <= losses.keys()
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert model.track_head.fc1.weight.grad.abs().sum() > 0


def test_track_rcnn_trains_without_objects_and_on_one_frame():
    model = build()
    empty = clip_sample()
    empty["instances"] = [frame[:0] for frame in empty["instances"]]
    single = clip_sample()
    single["frames"], single["instances"] = single["frames"][:1], single["instances"][:1]
    with EventStorage():
        losses = model([empty])
        assert losses["loss_track"].item() == 0
        sum(losses.values()).backward()
        assert model.track_head.fc1.weight.grad is not None
        assert model([single])["loss_track"] > 0


@pytest.mark.parametrize("head", ["AISFormer", "AmodalMaskRCNNHead"])
def test_track_rcnn_gives_tracks_of_the_video(head):
    model = build(head, "TEST.AMODAL.TOPK", 3).eval()
    sample = clip_sample()
    video = {"video_id": 5, "height": 128, "width": 192, "frames": ArrayFrames(sample["frames"])}
    (output,) = model([video])
    prediction = output["prediction"]
    assert (output["video_id"], prediction.video_id, prediction.length) == (5, 5, 4)
    assert 1 <= len(prediction.tracks) <= 3
    scores = [track.score for track in prediction.tracks]
    assert scores == sorted(scores, reverse=True)
    for track in prediction.tracks:
        assert len(track.amodal) == 4
        assert (track.visible is None) == (head == "AmodalMaskRCNNHead")
        assert all(mask is None or mask["size"] == [128, 192] for mask in track.amodal)
    assert len(prediction.to_annotations()) == len(prediction.tracks)


def frames_of(sample):
    return sample["frames"].permute(0, 2, 3, 1).to(torch.uint8).numpy()


@pytest.mark.parametrize("head", ["AISFormer", "AmodalMaskRCNNHead"])
def test_track_rcnn_in_the_predictor_finds_what_the_evaluator_sees(head):
    model = build(head, "TEST.AMODAL.TOPK", 3).eval()
    sample = clip_sample()
    frames = frames_of(sample)
    height, width = frames.shape[1:3]
    video = {"video_id": 1, "height": height, "width": width}
    (output,) = model(
        [video | {"frames": ArrayFrames(torch.from_numpy(frames).permute(0, 3, 1, 2))}]
    )
    with closing(Predictor(model, PredictorSettings(top_k=3))) as predictor:
        assert predictor.push(frames) == []
        tracks = predictor.finish().to_prediction(1).tracks
        expected = output["prediction"].tracks
        assert [track.score for track in tracks] == pytest.approx([t.score for t in expected])
        for found, wanted in zip(tracks, expected, strict=True):
            assert found.category_id == wanted.category_id
            assert found.amodal == wanted.amodal
            assert (found.visible is None) == (head == "AmodalMaskRCNNHead")


def test_track_rcnn_goes_on_from_a_saved_state():
    model, frames = build().eval(), frames_of(clip_sample())
    found = []
    for cut in (0, 2):
        with closing(Predictor(model)) as predictor:
            predictor.push(frames[:cut])
            state = predictor.state_dict()
        with closing(Predictor(model)) as predictor:
            predictor.load_state_dict(state)
            predictor.push(frames[cut:])
            found.append(predictor.finish().to_prediction(1))
    assert found[0] == found[1]
    assert len(found[0].tracks) > 0


def test_track_rcnn_without_detections_gives_no_tracks():
    model = build("AISFormer", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0).eval()
    with closing(Predictor(model)) as predictor:
        predictor.push(frames_of(clip_sample()))
        assert len(predictor.finish()) == 0


def test_video_demo_runs_a_track_rcnn(tmp_path):
    keys = ["MODEL.META_ARCHITECTURE", "AmodalTrackRCNN", "MODEL.TRACK_RCNN.HIDDEN_DIM", 32]
    cfg = tiny_config("AISFormer", *keys, "INPUT.MIN_SIZE_TEST", 64)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    make_video(tmp_path / "a.mp4", 3)
    tool = load_script("tools/video_demo.py")
    arguments = ["--input", str(tmp_path / "a.mp4"), "--output", str(tmp_path / "out")]
    common = [*arguments, "--score", "0", "--save", "json,overlay"]
    with restored_loggers():
        assert tool.main(["--config-file", str(tmp_path / "config.yaml"), *common]) == 0
        cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNNAmodal"
        (tmp_path / "images.yaml").write_text(cfg.dump())
        assert tool.main(["--config-file", str(tmp_path / "images.yaml"), *common]) == 1
    content = json.loads((tmp_path / "out/tracks.json").read_text())
    assert len(content["categories"]) == 3
    assert content["videos"][0]["length"] == 3
    assert content["annotations"]


def test_track_rcnn_reads_frames_as_rgb():
    frame = torch.zeros(3, 64, 96)
    frame[0] = 255
    images = [build("AISFormer", "INPUT.FORMAT", name)._features([frame])[0].tensor[0, :, 0, 0]
              for name in ("RGB", "BGR")]  # fmt: skip
    assert images[0].argmax() == 0
    assert images[1].argmax() == 2
