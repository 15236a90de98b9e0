import importlib.util
import json

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def script():
    path = REPOSITORY / "datasets" / "prepare_aquarium.py"
    spec = importlib.util.spec_from_file_location("prepare_aquarium", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SMALL = ["--train", "1", "--val", "1", "--size", "64x48", "--frames", "2", "--workers", "1"]


def test_main_writes_both_splits(script, tmp_path):
    assert script.main(["--out", str(tmp_path), *SMALL, "--format", "png", "--flow"]) == 0
    for split in ("train", "val"):
        video = json.loads((tmp_path / f"{split}.json").read_text())["videos"][0]
        assert (video["width"], video["height"], video["length"]) == (64, 48, 2)
        assert (tmp_path / video["file_names"][1]).is_file()
        assert (tmp_path / video["flow_files"][0]).is_file()


def test_main_default_format_is_one_video_file(script, tmp_path):
    assert script.main(["--out", str(tmp_path), *SMALL]) == 0
    assert (tmp_path / "train_00000.mp4").is_file()
    assert script.main(["--out", str(tmp_path), *SMALL, "--seed", "5"]) == 2
    assert script.main(["--out", str(tmp_path), *SMALL, "--seed", "5", "--force"]) == 0


def test_main_dense_draws_another_choreography(script, tmp_path):
    for name, options in (("usual", []), ("dense", ["--dense"])):
        assert script.main(["--out", str(tmp_path / name), *SMALL, "--frames", "8", *options]) == 0
    usual, dense = (
        json.loads((tmp_path / name / "train.json").read_text()) for name in ("usual", "dense")
    )
    assert dense["info"]["scene"] == "aquarium_dense"
    assert dense["annotations"] != usual["annotations"]


def test_main_bad_value_ends_with_status_two(script, tmp_path):
    assert script.main(["--out", str(tmp_path), "--frames", "200"]) == 2
