"""Tests of amodal2/utils/files.py."""

import json
import os

import pytest

from amodal2.utils.files import atomic_write, write_json


def test_atomic_write_success_replaces_the_file(tmp_path):
    target = tmp_path / "new folder" / "clip.mp4"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"done")
        assert not target.exists()
    assert target.read_bytes() == b"done"
    assert os.listdir(target.parent) == ["clip.mp4"]


def test_atomic_write_error_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")

    def write_and_fail():
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_atomic_write_uses_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_write_json_round_trips(tmp_path):
    write_json(tmp_path / "a.json", {"k": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"k": [1, 2.5, None]}


def test_write_json_with_nan_raises_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert os.listdir(tmp_path) == []
