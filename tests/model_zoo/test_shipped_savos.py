"""The shipped SaVos on videos that it has not learnt from."""

import pytest

from amodal2 import model_zoo
from amodal2.checkpoint.zoo_path import WEIGHTS_FOLDER
from amodal2.data.datasets.video_amodal import load_video_amodal_json
from amodal2.data.synthetic.gum_writer import GumSpec, write_gum_split
from amodal2.evaluation.completion import evaluate_completions
from amodal2.modeling.completion import CompletionSettings, build_completer, complete_video
from amodal2.structures.track import Track
from amodal2.structures.video_json import read_video_json
from amodal2.utils.frames import open_frames
from amodal2.utils.optical_flow import open_flow

_CONFIG = "savos/quick/savos_chewing_gum.yaml"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_gum_split(GumSpec("paper", seed=77), tmp_path_factory.mktemp("gum"), "test", 3)


def hidden_iou(dataset, completer):
    """Return the mIoU of the hidden parts in percent, with predictions inside other objects."""
    records = []
    for video in load_video_amodal_json(dataset, dataset.parent):
        tracks = [Track(one["id"], 1, 1.0, one["segmentations"]) for one in video["annotations"]]
        settings, flow = CompletionSettings(compose="others"), open_flow(video["flow_file"])
        with open_frames(video["file_names"]) as source:
            found = complete_video(completer, source, tracks, settings, flow=flow)[0]
        records += [
            {"gt_id": track.id, "amodal_segmentations": track.amodal} for track in found.tracks
        ]
    report = evaluate_completions(read_video_json(dataset), records, protocols=["partly_hidden"])
    return report.percent()["partly_hidden"]["occ_blend"]


def test_shipped_savos_beats_the_convex_hull_on_new_videos(dataset):
    model = model_zoo.get(_CONFIG, device="cpu")
    found = hidden_iou(dataset, build_completer("savos", model=model))
    assert found > 70
    assert found > hidden_iou(dataset, build_completer("convex")) + 20


def test_shipped_savos_is_small():
    file = WEIGHTS_FOLDER / "savos_chewing_gum.safetensors"
    assert file.stat().st_size < 3_000_000
    assert file.with_suffix(".md").is_file()
