"""The tables of completion: every row once, complete runs kept, what is printed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from amodal2.config import get_cfg
from amodal2.data.datasets.video_amodal import load_video_amodal_json
from amodal2.data.mappers import ObjectTrackMapper
from amodal2.data.synthetic.gum_writer import GumSpec, write_gum_split
from tests.conftest import REPOSITORY, load_script


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    return load_script("tools/completion_table.py")


@pytest.fixture
def steps(tool):
    from benchmarks import completion_steps

    return completion_steps


def numbers(value, tracks=False):
    scores = {"full": value, "occ": 50.0, "counts": {"num_object_frames": 7}}
    report = {"results": {"partly_hidden": scores}}
    if tracks:
        report["tracks"] = {"results": {"amodal": {"AP": 40.0, "AP50": 60.0, "AP75": 41.0}}}
    return json.dumps(report)


@pytest.fixture
def calls(steps, monkeypatch):
    """Let no command run; note it and write the file that it would write last."""
    noted = []

    def run(plan, tool, *arguments, root="data"):
        noted.append((tool, [str(one) for one in arguments], root))
        words = noted[-1][1]
        for flag in ("--report", "--out", "--output", "OUTPUT_DIR"):
            if flag in words:
                path = plan.out / words[words.index(flag) + 1]
                break
        if flag == "--report":
            path.write_text(numbers(90.0, "--tracks" in words))
        else:
            last = {"--out": "test.json", "--output": "val_00001/tracks.json"}
            path = path / last.get(flag, "model_final.pth")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")

    monkeypatch.setattr(steps, "run_tool", run)
    return noted


@pytest.fixture
def aquarium(tmp_path):
    folder = tmp_path / "aquarium"
    for split in ("train", "val"):
        file = write_gum_split(GumSpec(frames=4), folder, "test", 2)
        content = json.loads(file.read_text())
        content["categories"] = [{"id": 1, "name": "pike"}, {"id": 2, "name": "betta"}]
        for number, one in enumerate(content["annotations"]):
            one["category_id"] = 1 + number % 2
        for video in content["videos"]:
            del video["flow_file"]
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


def options(tmp_path, aquarium):
    small = ["--aquarium-train", "2", "--aquarium-test", "2", "--tracked", "2"]
    small += ["--playroom", str(aquarium), "--playroom-train", "2", "--playroom-test", "2"]
    return ["--out", str(tmp_path / "out"), "--aquarium", str(aquarium), *small]


def test_main_runs_every_step_once_and_prints_all_rows(tool, calls, aquarium, tmp_path, capsys):
    assert tool.main(options(tmp_path, aquarium)) == 0
    printed = capsys.readouterr().out
    assert printed.count("**") == 10
    assert "| seen_adapted | 90.0 | 50.0 | - | - | 7 |" in printed
    assert "| a2vis | 90.0 | 50.0 | - | - | 40.0 | 60.0 | 41.0 | 7 |" in printed
    files = [words[words.index("--report") + 1] for _, words, _ in calls if "--report" in words]
    assert len(set(files)) == len(files)
    seen = [root for tool_, words, root in calls if "aquarium_seen" in str(words)]
    assert seen.count("data_seen") == 1
    done = len(calls)
    assert tool.main(options(tmp_path, aquarium)) == 0
    assert len(calls) == done


def test_configs_of_the_trainings_merge(tool, calls, aquarium, tmp_path):
    assert tool.main(options(tmp_path, aquarium)) == 0
    trainings = [words for name, words, _ in calls if name == "tools/train_net.py"]
    assert len(trainings) == 9
    for words in trainings:
        cfg = get_cfg()
        cfg.merge_from_file(words[1])
        cfg.merge_from_list(words[3:])
        assert cfg.DATASETS.TEST == ()


def test_main_failing_command_is_reported(tool, steps, aquarium, tmp_path, monkeypatch, capsys):
    def fail(plan, name, *arguments, root="data"):
        raise RuntimeError(f"{name} ended with status 1")

    monkeypatch.setattr(steps, "run_tool", fail)
    assert tool.main([*options(tmp_path, aquarium), "--part", "gum"]) == 1
    assert "prepare_chewing_gum.py ended with status 1" in capsys.readouterr().err


def test_main_too_many_tracked_videos_are_reported(tool, aquarium, tmp_path, capsys):
    assert tool.main([*options(tmp_path, aquarium), "--tracked", "3"]) == 1
    assert "expected tracked in [2, 2], got 3" in capsys.readouterr().err


def test_write_subset_stores_flow_and_hides_a_class(steps, aquarium, tmp_path):
    out = tmp_path / "subset" / "train.json"
    steps.write_subset(aquarium / "train.json", out, 2, {"betta"})
    first, _ = load_video_amodal_json(out, out.parent)
    assert [one["iscrowd"] for one in first["annotations"]] == [0, 1]
    with np.load(first["flow_file"]) as flow:
        assert flow["forward"].shape == (4, 50, 56, 2)
        assert not flow["forward"][-1].any()
        assert not flow["backward"][0].any()
    sample = ObjectTrackMapper(is_train=True, num_frames=4)(first, 0)
    assert sample["annotation_id"] == first["annotations"][0]["id"]
    again = tmp_path / "again" / "train.json"
    steps.write_subset(out, again, 1)
    (only,) = load_video_amodal_json(again, again.parent)
    assert only["flow_file"] == first["flow_file"]
    with pytest.raises(ValueError, match="expected 3 videos"):
        steps.write_subset(aquarium / "train.json", out, 3)
