"""The shipped model on unseen rendered videos and on camera footage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amodal2 import model_zoo
from amodal2.data.synthetic.writer import DatasetSpec, write_split
from amodal2.evaluation.prediction_files import load_video_predictions
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.rle import validate_rle
from amodal2.structures.video_json import read_video_json
from amodal2.utils.frames import open_frames
from amodal2.video.writer import VideoWriter
from tests.conftest import REPOSITORY, load_script
from tests.engine.toy import restored_loggers

_CONFIG = "a2vis/quick/a2vis_aquarium.yaml"
_CLIPS_FOLDER = REPOSITORY.parent / "shared" / "data" / "real_clips"
_CLIPS = sorted(path.parent for path in _CLIPS_FOLDER.glob("*/rgb"))


def run_demo(*arguments: object) -> int:
    demo = load_script("tools/video_demo.py")
    config = model_zoo.get_config_file(_CONFIG)
    with restored_loggers():
        return demo.main(["--config-file", config, *map(str, arguments)])


def test_shipped_weights_fit_in_the_package() -> None:
    weights = list((REPOSITORY / "amodal2" / "model_zoo" / "weights").glob("*"))
    sizes = {path.name: path.stat().st_size for path in weights}
    assert sizes["a2vis_aquarium.safetensors"] <= 24e6
    assert sum(sizes.values()) <= 45e6


@pytest.mark.slow
def test_shipped_model_unseen_aquarium_beats_its_own_visible_masks(tmp_path: Path) -> None:
    spec = DatasetSpec(seed=77, width=240, height=160, frames=32, format="mp4")
    write_split(spec, tmp_path, "val", 4)
    output = tmp_path / "out"
    assert run_demo("--input", tmp_path / "*.mp4", "--output", output, "--save", "json",
                    "--score-threshold", 0) == 0  # fmt: skip
    truth = read_video_json(tmp_path / "val.json")
    predictions = load_video_predictions([str(output)], truth)
    rows = evaluate_video_tracks(truth, predictions, visible_as_amodal=True).rows
    scores = {name: row.percent() for name, row in rows.items()}
    assert scores["visible"]["AP"] >= 35
    assert scores["amodal"]["AP"] >= 35
    assert scores["amodal"]["AP50"] >= 60
    assert scores["amodal"]["AP"] > scores["visible_as_amodal"]["AP"]


@pytest.mark.slow
@pytest.mark.skipif(not _CLIPS, reason=f"no clips in {_CLIPS_FOLDER}")
@pytest.mark.parametrize("clip", _CLIPS, ids=lambda path: path.name)
def test_shipped_model_runs_on_camera_footage(clip: Path, tmp_path: Path) -> None:
    folder = clip / "rgb"
    with open_frames(folder, fps=8.0) as frames:
        with VideoWriter(tmp_path / "clip.mp4", frames.height, frames.width, fps=8.0) as writer:
            for image, seconds in frames:
                writer.write(image, seconds)
        size, length = (frames.height, frames.width), frames.length
    for name, source in (("folder", folder), ("file", tmp_path / "clip.mp4")):
        output = tmp_path / name
        assert run_demo("--input", source, "--output", output, "--score-threshold", 0.1) == 0
        with open_frames(output / "overlay.mp4") as overlay:
            assert sum(1 for _ in overlay) == length
            even = tuple(n + n % 2 for n in size)
            assert (overlay.height, overlay.width) == even
        content = json.loads((output / "tracks.json").read_text())
        (video,) = content["videos"]
        expected = size if name == "folder" else even
        assert (video["height"], video["width"], video["length"]) == (*expected, length)
        for track in content["annotations"]:
            assert len(track["amodal_segmentations"]) == length
            for rle in filter(None, track["amodal_segmentations"]):
                validate_rle(rle, expected)
