import importlib.util
import json
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.data.synthetic.playrooms import needs_physics

SMALL = ["--train", "1", "--val", "1", "--size", "48x48", "--frames", "2", "--workers", "1"]


@pytest.fixture(scope="module")
def script():
    path = REPOSITORY / "datasets" / "prepare_playroom.py"
    spec = importlib.util.spec_from_file_location("prepare_playroom", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_physics
def test_main_writes_frames_flow_and_depth_of_both_splits(script, tmp_path):
    assert script.main(["--out", str(tmp_path), *SMALL, "--flow", "--depth"]) == 0
    for split in ("train", "val"):
        content = json.loads((tmp_path / f"{split}.json").read_text())
        (video,) = content["videos"]
        assert (video["width"], video["height"], video["length"], video["fps"]) == (48, 48, 2, 12)
        for key in ("file_names", "depth_files"):
            assert all((tmp_path / name).is_file() for name in video[key])
        assert (tmp_path / video["flow_files"][0]).is_file()
        assert len(content["categories"]) == 12


def test_main_without_the_engine_says_what_to_install(script, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    assert script.main(["--out", str(tmp_path), *SMALL]) == 2
    assert "pip install 'amodal2[physics]'" in caplog.text
