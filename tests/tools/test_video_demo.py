"""The command line of the video demo."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from amodal2.utils.errors import CheckpointError
from amodal2.utils.video_file import VideoFile
from tests.conftest import REPOSITORY
from tests.engine.toy import restored_loggers
from tests.modeling.tiny import TINY_KEYS
from tests.utils.sample_videos import make_video
from tests.video.colour_model import ColourModel

TOOL = Path(__file__).resolve().parents[2] / "tools" / "video_demo.py"
spec = importlib.util.spec_from_file_location("video_demo", TOOL)
video_demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(video_demo)


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Give a function that runs the tool with a model of colours: (status, output folder)."""
    config = tmp_path / "config.yaml"
    config.write_text("MODEL:\n  DEVICE: cpu\n  SEM_SEG_HEAD:\n    NUM_CLASSES: 3\nVERSION: 2\n")
    monkeypatch.setattr(video_demo.model_zoo, "load_model", lambda cfg: ColourModel())
    output = tmp_path / "out"

    def run(*arguments, config_file=config):
        common = ["--config-file", str(config_file), "--output", str(output), "--input"]
        return video_demo.main([*common, *(str(argument) for argument in arguments)]), output

    with restored_loggers():
        yield run


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_main_one_input_writes_into_the_output_folder(demo, tmp_path):
    make_video(tmp_path / "a.mp4", 4)
    status, output = demo(tmp_path / "a.mp4", "--score-threshold", "0.3")
    assert (status, files(output)) == (0, ["overlay.mp4", "tracks.json"])
    content = json.loads((output / "tracks.json").read_text())
    assert [entry["name"] for entry in content["categories"]] == ["class 1", "class 2", "class 3"]
    assert {track["category_id"] for track in content["annotations"]} == {1, 3}


@pytest.mark.parametrize("option", ["--score", "--score-threshold"])
def test_main_classes_and_score_choose_tracks(demo, tmp_path, option):
    make_video(tmp_path / "a.mp4", 4)
    _, output = demo(tmp_path / "a.mp4", option, "0.3", "--classes", "class 2,class 3")
    content = json.loads((output / "tracks.json").read_text())
    assert [track["category_id"] for track in content["annotations"]] == [3]


def test_main_unknown_class_is_reported(demo, tmp_path, capsys):
    make_video(tmp_path / "a.mp4", 4)
    status, output = demo(tmp_path / "a.mp4", "--classes", "class 1,whale")
    assert (status, output.exists()) == (1, False)
    assert "expected some of class 1, class 2, class 3, got whale" in capsys.readouterr().err


def test_main_stream_writes_lines(demo, tmp_path):
    make_video(tmp_path / "a.mp4", 4)
    status, output = demo(f"file:{tmp_path / 'a.mp4'}", "--max-gone", "10")
    assert (status, files(output)) == (0, ["overlay.mp4", "tracks.jsonl"])
    assert len((output / "tracks.jsonl").read_text().splitlines()) == 5


def test_main_absent_camera_is_reported(demo, capsys):
    status, _ = demo("camera:99")
    assert status == 1
    assert "expected a readable stream, got camera:99" in capsys.readouterr().err


def test_main_exports_lie_beside_the_tracks(demo, tmp_path):
    make_video(tmp_path / "a.mp4", 4)
    status, output = demo(tmp_path / "a.mp4", "--save", "coco,ytvis")
    assert (status, files(output)) == (0, ["coco.json", "coco_results.json", "ytvis.json"])


def test_main_video_of_one_frame_works(demo, tmp_path):
    make_video(tmp_path / "a.mp4", 1)
    status, output = demo(tmp_path / "a.mp4", "--score", "0.3")
    assert status == 0
    assert len(list(VideoFile(output / "overlay.mp4"))) == 1
    assert json.loads((output / "tracks.json").read_text())["videos"][0]["length"] == 1


def test_main_unknown_key_in_the_config_file_is_reported(demo, tmp_path, capsys):
    make_video(tmp_path / "a.mp4", 1)
    config = tmp_path / "other.yaml"
    config.write_text("MODEL:\n  A2VIZ: 1\nVERSION: 2\n")
    status, output = demo(tmp_path / "a.mp4", config_file=config)
    assert (status, output.exists()) == (1, False)
    assert "Non-existent config key: MODEL.A2VIZ" in capsys.readouterr().err


def test_main_several_inputs_get_a_folder_each(demo, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / name, 3)
    status, output = demo(tmp_path / "*.mp4", "--save", "json")
    assert (status, files(output)) == (0, ["a/tracks.json", "b/tracks.json"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("absent.mp4", "absent.mp4: not found"),
        ("*.xyz", "a pattern that matches something"),
        ("empty", "images or videos, got none in"),
        ("corrupt.mp4", "corrupt.mp4: Invalid data"),
    ],
)
def test_main_bad_input_is_reported_and_the_others_still_run(demo, tmp_path, capsys, bad, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "corrupt.mp4").write_bytes(b"no video" * 99)
    make_video(tmp_path / "good.mp4", 3)
    status, output = demo(tmp_path / bad, tmp_path / "good.mp4")
    assert status == 1
    assert files(output) == ["good/overlay.mp4", "good/tracks.json"]
    assert len(list(VideoFile(output / "good/overlay.mp4"))) == 3
    errors = [line for line in capsys.readouterr().err.splitlines() if "[ERROR" in line]
    assert len(errors) == 1
    assert message in errors[0]


def test_main_only_a_bad_input_writes_nothing(demo, tmp_path):
    status, output = demo(tmp_path / "absent.mp4")
    assert status == 1
    assert not output.exists()


def test_main_nothing_detected_succeeds_with_one_warning(demo, tmp_path, capsys):
    make_video(tmp_path / "a.mp4", 3)
    status, output = demo(
        tmp_path / "a.mp4", "--score-threshold", "0.99", "--opts", "MODEL.WEIGHTS", "x"
    )
    assert status == 0
    assert files(output) == ["overlay.mp4", "tracks.json"]
    assert capsys.readouterr().err.count("[WARNING") == 1


def test_main_damaged_weights_are_reported(demo, tmp_path, capsys, monkeypatch):
    def fail(cfg):
        raise CheckpointError("weights of another model")

    monkeypatch.setattr(video_demo.model_zoo, "load_model", fail)
    make_video(tmp_path / "a.mp4", 3)
    status, _ = demo(tmp_path / "a.mp4")
    assert status == 1
    assert "weights of another model" in capsys.readouterr().err


@pytest.mark.parametrize("opts", [("NO.KEY", "1"), ("MODEL.DEVICE",)])
def test_main_wrong_option_is_reported(demo, tmp_path, capsys, opts):
    make_video(tmp_path / "a.mp4", 3)
    status, _ = demo(tmp_path / "a.mp4", "--opts", *opts)
    assert status == 1
    assert "[ERROR" in capsys.readouterr().err


def test_main_absent_config_file_is_reported(demo, tmp_path, capsys):
    make_video(tmp_path / "a.mp4", 3)
    status, _ = demo(tmp_path / "a.mp4", config_file=tmp_path / "absent.yaml")
    assert status == 1
    assert "absent.yaml" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "key"),
    [
        *((name, "segmentations") for name in ("vita", "genvis_online", "minvis")),
        *((name, "amodal_segmentations") for name in ("mask2former_amodal", "genvis_amodal")),
    ],
)
def test_main_baseline_writes_the_kind_that_it_predicts(tmp_path, name, key):
    config = REPOSITORY / "configs" / "baselines" / "quick" / f"{name}_aquarium.yaml"
    make_video(tmp_path / "a.mp4", 4)
    output = tmp_path / "out"
    arguments = ["--config-file", str(config), "--input", str(tmp_path / "a.mp4")]
    arguments += ["--output", str(output), "--score-threshold", "0"]
    keys = [*(str(value) for value in TINY_KEYS), "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "6"]
    with restored_loggers():
        assert video_demo.main([*arguments, "--save", "overlay,json,masks", "--opts", *keys]) == 0
    tracks = json.loads((output / "tracks.json").read_text())["annotations"]
    assert tracks
    assert all({k for k in track if k.endswith("segmentations")} == {key} for track in tracks)
    kind = {"segmentations": "visible", "amodal_segmentations": "amodal"}[key]
    assert {path.parent.name for path in (output / "masks").rglob("*.png")} == {kind}


def test_main_unknown_save_is_refused(demo, tmp_path, capsys):
    with pytest.raises(SystemExit):
        demo(tmp_path / "a.mp4", "--save", "overlay,gif")
    assert "got 'gif'" in capsys.readouterr().err


def test_main_completer_replaces_amodal_masks(demo, tmp_path):
    make_video(tmp_path / "a.mp4", 4)
    status, output = demo(
        tmp_path / "a.mp4", "--score", "0.3", "--completer", "modal", "--save", "json,overlay"
    )
    assert (status, files(output)) == (0, ["overlay.mp4", "tracks.json"])
    tracks = json.loads((output / "tracks.json").read_text())["annotations"]
    assert all(track["amodal_segmentations"] == track["segmentations"] for track in tracks)
    assert all("amodal_score" not in track for track in tracks)


def test_main_content_writes_completed_objects(demo, tmp_path):
    pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")
    from tests.modeling.diffusion_vas.tiny import build_pipeline

    make_video(tmp_path / "a.mp4", 4)
    for name in ("stage1", "stage2"):
        build_pipeline().save_pretrained(tmp_path / name)
    options = (f"weights={tmp_path / 'stage1'}", "steps=1", "size=(8, 12)", "window=4", "overlap=0")
    status, output = demo(
        *(tmp_path / "a.mp4", "--score", "0.3", "--completer", "diffusion_vas"),
        *(f"--completer-option={option}" for option in options),
        *("--content", tmp_path / "stage2", "--save", "json"),
    )
    assert status == 0
    tracks = json.loads((output / "tracks.json").read_text())["annotations"]
    expected = {
        f"content/id_{track['id']:03d}/{t:06d}.png"
        for track in tracks
        for t, mask in enumerate(track["amodal_segmentations"])
        if mask is not None
    }
    assert expected
    assert set(files(output)) == expected | {"tracks.json"}


def test_main_content_without_completer_is_refused(demo, tmp_path, capsys):
    with pytest.raises(SystemExit):
        demo(tmp_path / "a.mp4", "--content")
    assert "need --completer" in capsys.readouterr().err


def test_main_completer_of_a_stream_is_reported(demo, tmp_path, capsys):
    make_video(tmp_path / "a.mp4", 4)
    status, _ = demo(f"file:{tmp_path / 'a.mp4'}", "--completer", "modal")
    assert status == 1
    assert "expected a recorded video, got a stream" in capsys.readouterr().err


def test_main_system_for_images_is_reported(tmp_path, capsys):
    config = REPOSITORY / "configs" / "roi_heads" / "quick" / "mask_joint_market.yaml"
    make_video(tmp_path / "a.mp4", 4)
    files = ["--input", str(tmp_path / "a.mp4"), "--output", str(tmp_path / "out")]
    arguments = ["--config-file", str(config), *files]
    with restored_loggers():
        assert video_demo.main([*arguments, "--opts", "MODEL.DEVICE", "cpu"]) == 1
    assert "got GeneralizedRCNNAmodal, which works on images" in capsys.readouterr().err
