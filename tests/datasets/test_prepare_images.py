"""The scripts for image datasets, end to end on miniature files."""

import importlib.util
import json
import logging

import pytest

from amodal2.structures.image_json import read_image_json
from tests.conftest import REPOSITORY
from tests.data.importers.test_image_importers import cocoa_regions, kins_2020, write


def run(name, *arguments):
    path = REPOSITORY / "datasets" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in arguments])


def test_prepare_kins_says_release_and_counts(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert run("prepare_kins", write(tmp_path, kins_2020()), "--out", tmp_path / "o.json") == 0
    assert "release of 2020" in caplog.text
    assert "objects: 95311 published, 3 found" in caplog.text
    dataset = read_image_json(tmp_path / "o.json", strict=True)
    assert len(dataset.categories) == 8
    assert dataset.images[0]["occlusion_pairs"] == [[1, 2]]


@pytest.mark.parametrize(("options", "count"), [([], 2), (["--stuff"], 3)])
def test_prepare_cocoa_writes_things_or_all(tmp_path, caplog, options, count):
    file = write(tmp_path, cocoa_regions())
    assert run("prepare_cocoa", file, "--out", tmp_path / "o.json", *options) == 0
    assert len(read_image_json(tmp_path / "o.json", strict=True).annotations) == count
    assert "no published counts to compare with for a file of this name" in caplog.text


def test_prepare_d2sa_bad_file_ends_with_status_two(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"images": []}))
    assert run("prepare_d2sa", tmp_path / "a.json", "--out", tmp_path / "o.json") == 2
    assert not (tmp_path / "o.json").exists()
