"""A whole dataset through a completer, with its scores."""

import json
import re

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from amodal2.config import get_cfg
from amodal2.data.synthetic.gum_writer import GumSpec, write_gum_split
from amodal2.engine.dataset_completion import read_truth
from amodal2.evaluation.completion import evaluate_completions
from amodal2.structures.video_json import read_video_json
from amodal2.utils.files import write_json
from tests.conftest import load_script
from tests.engine.test_dataset_completion import predictions, write_images, write_videos
from tests.engine.toy import restored_loggers

tool = load_script("tools/complete_dataset.py")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_gum_split(GumSpec("paper", frames=34), tmp_path_factory.mktemp("gum"), "test", 2)


def run(dataset, folder, *more):
    arguments = ["--json", str(dataset), "--output", str(folder / "out.json"), "--device", "cpu"]
    with restored_loggers():
        return tool.main([*arguments, *more])


def scores(dataset, folder, protocol="partly_hidden"):
    records = json.loads((folder / "out.json").read_text())
    report = evaluate_completions(read_video_json(dataset), records, protocols=[protocol])
    return report.percent()[protocol]


def test_main_union_with_exact_flow_finds_everything(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path, "--completer", "union") == 0
    found = scores(dataset, tmp_path)
    assert min(found["full"], found["occ"], found["occ_blend"]) > 99.9
    assert re.search(r"partly_hidden\s", capsys.readouterr().err)


def test_main_convex_finds_less(dataset, tmp_path):
    assert run(dataset, tmp_path, "--completer", "convex") == 0
    found = scores(dataset, tmp_path)
    assert found["occ"] < 70
    assert found["full"] > found["occ"]


def test_main_modal_finds_no_hidden_part(dataset, tmp_path):
    assert run(dataset, tmp_path, "--completer", "modal") == 0
    assert scores(dataset, tmp_path)["occ"] == 0


def make_options(tmp_path, kind):
    """Write a small model's config and weights and return the options that name them."""
    name = {"savos": "SaVos", "unet": "AmodalUNet"}[kind]
    config = tmp_path / "small.yaml"
    config.write_text(
        f"MODEL:\n  META_ARCHITECTURE: {name}\n  SAVOS:\n    BASE_CHANNELS: 2\n"
        "  AMODAL_UNET:\n    CHANNELS: 2\n    PATCH_SIZE: 16\nVERSION: 2\n"
    )
    cfg = get_cfg()
    cfg.merge_from_file(str(config))
    cfg.MODEL.DEVICE = "cpu"
    weights = tmp_path / "weights.pth"
    torch.save({"model": build_model(cfg).state_dict()}, weights)
    return ["--option", f"config={config}", "--option", f"weights={weights}"]


def test_main_adapts_and_draws_how(dataset, tmp_path, capsys):
    options = make_options(tmp_path, "savos")
    more = ["--adapt", "--adapt-iterations", "2", "--adapt-dir", str(tmp_path / "states")]
    assert run(dataset, tmp_path, "--completer", "savos", *options, *more) == 0
    histories = json.loads((tmp_path / "out_adaptation.json").read_text())
    assert [len(one["occluded_iou"]) for one in histories.values()] == [2, 2]
    assert "IoU (%)" in (tmp_path / "out_adaptation.svg").read_text()
    assert sorted(path.name for path in (tmp_path / "states").iterdir()) == ["1.pt", "2.pt"]
    assert "adaptation: 4 iterations and" in capsys.readouterr().err


def test_main_adapting_a_baseline_is_reported(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path, "--completer", "union", "--adapt") == 1
    assert "--adapt: expected the completer savos or pcnet, got union" in capsys.readouterr().err


def test_main_completes_and_scores_the_chosen_classes_of_the_first_videos(dataset, tmp_path):
    content = json.loads(dataset.read_text())
    content["categories"] = [{"id": 1, "name": "gum"}, {"id": 2, "name": "other"}]
    for number, record in enumerate(content["annotations"]):
        record["category_id"] = 1 + number % 2
    marked = dataset.with_name("marked.json")
    marked.write_text(json.dumps(content))
    report = tmp_path / "report.json"
    more = ["--completer", "union", "--classes", "other", "--report", str(report)]
    assert run(marked, tmp_path, *more) == 0
    records = json.loads((tmp_path / "out.json").read_text())
    wanted = [one["id"] for one in content["annotations"] if one["category_id"] == 2]
    assert [one["gt_id"] for one in records] == wanted
    found = json.loads(report.read_text())
    assert found["notes"] == []
    assert found["counts"] == {"objects": 2, "object-frames": 68}
    assert run(marked, tmp_path, *more, "--limit", "1") == 0
    assert json.loads(report.read_text())["counts"]["objects"] == 1


def test_main_unknown_class_is_reported(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path, "--completer", "union", "--classes", "rubber") == 1
    assert "--classes: expected some of" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["savos", "unet"])
def test_main_trained_completer_loads_its_weights(dataset, tmp_path, kind):
    options = make_options(tmp_path, kind)
    assert run(dataset, tmp_path, "--completer", kind, *options) == 0
    assert np.isfinite(list(scores(dataset, tmp_path).values())).all()


def test_main_trained_completer_without_weights_is_reported(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path, "--completer", "savos") == 1
    message = "expected config=FILE, and weights=FILE if it names none, for savos"
    assert message in capsys.readouterr().err


@pytest.fixture
def tracks(dataset, tmp_path):
    """Predicted tracks: the true visible masks of the first video, and a stray one."""
    truth = read_video_json(dataset)
    records = [
        {
            "video_id": record["video_id"],
            "category_id": 1,
            "score": 0.9,
            "segmentations": record["segmentations"],
            "amodal_segmentations": record["segmentations"],
        }
        for record in truth.annotations
        if record["video_id"] == truth.videos[0]["id"]
    ]
    stray = [None] * 33 + [records[0]["segmentations"][0]]
    records.append({**records[0], "score": 0.1, "segmentations": stray})
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps(records))
    return ["--tracks", str(path)]


def test_main_completes_predicted_tracks(dataset, tracks, tmp_path):
    report = tmp_path / "report.json"
    more = ["--completer", "union", "--limit", "1", "--report", str(report)]
    assert run(dataset, tmp_path, *tracks, *more) == 0
    found = json.loads(report.read_text())
    assert found["counts"]["objects"] == 2
    assert found["results"]["partly_hidden"]["occ"] > 99.9
    assert found["tracks"]["results"]["amodal"]["AP"] == 100
    assert len(json.loads((tmp_path / "out.json").read_text())) == 3


def test_main_none_scores_the_tracks_own_amodal_masks(dataset, tracks, tmp_path, capsys):
    report = tmp_path / "report.json"
    more = ["--completer", "none", "--limit", "1", "--report", str(report)]
    assert run(dataset, tmp_path, *tracks, *more) == 0
    found = json.loads(report.read_text())
    assert found["results"]["partly_hidden"]["occ"] == 0
    assert found["tracks"]["results"]["visible"]["AP"] == 100
    assert run(dataset, tmp_path, "--completer", "none") == 1
    assert "--completer none: expected --tracks" in capsys.readouterr().err


def test_main_completes_images(tmp_path):
    annotations = write_images(tmp_path)
    assert run(annotations, tmp_path, "--completer", "modal", "--protocols", "c2f_image") == 0
    records = json.loads((tmp_path / "out.json").read_text())
    assert [record["gt_id"] for record in records] == [10, 11, 20, 21]
    assert records[0]["image_id"] == 1


def test_main_judges_the_objects_that_a_track_shows(tmp_path, capsys):
    annotations = write_videos(tmp_path)
    tracks = tmp_path / "tracks.json"
    write_json(tracks, predictions(read_truth(annotations)))
    more = ["--tracks", str(tracks), "--protocols", "c2f_video"]
    assert run(annotations, tmp_path, "--completer", "modal", *more) == 0
    assert "3 of 4 objects are shown by a track" in capsys.readouterr().err
    records = json.loads((tmp_path / "out.json").read_text())
    assert [record["score"] for record in records] == [0.9] * 3
    assert all(r["amodal_segmentations"] == r["segmentations"] for r in records)


def test_main_tracks_of_images_are_reported(tmp_path, capsys):
    more = ["--tracks", str(tmp_path / "tracks.json")]
    assert run(write_images(tmp_path), tmp_path, "--completer", "modal", *more) == 1
    assert "--tracks: expected annotations of videos" in capsys.readouterr().err
