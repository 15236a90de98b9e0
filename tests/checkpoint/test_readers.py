"""Readers of weight files."""

import io
import os
import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from amodal2.checkpoint import read_weights
from amodal2.utils.errors import CheckpointError

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def write(path, data):
    path.write_bytes(pickle.dumps(data))
    return path


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["AMODAL2_TEST_EVIL"],)


@pytest.mark.parametrize("nested", [True, False])
def test_read_weights_pth_gives_tensors_under_model(tmp_path, nested):
    weights = {"a.weight": torch.from_numpy(ARRAY)}
    path = tmp_path / "w.pth"
    torch.save({"model": weights, "iteration": 3} if nested else weights, path)
    data = read_weights(path)
    assert torch.equal(data["model"]["a.weight"], torch.from_numpy(ARRAY))
    assert data.get("iteration") == (3 if nested else None)


def test_read_weights_safetensors_gives_tensors_under_model(tmp_path):
    save_file({"a.weight": torch.from_numpy(ARRAY)}, tmp_path / "w.safetensors")
    data = read_weights(tmp_path / "w.safetensors")
    assert torch.equal(data["model"]["a.weight"], torch.from_numpy(ARRAY))


@pytest.mark.parametrize(
    "content",
    [
        {"model": OrderedDict({"a.weight": ARRAY}), "__author__": "someone"},
        {"model": {"a.weight": ARRAY}},
        {"a.weight": ARRAY},
    ],
    ids=["model_zoo", "model_only", "plain"],
)
def test_read_weights_pickle_gives_arrays_under_model(tmp_path, content):
    data = read_weights(write(tmp_path / "w.pkl", content))
    np.testing.assert_array_equal(data["model"]["a.weight"], ARRAY)
    assert "matching_heuristics" not in data


def test_read_weights_caffe2_pickle_asks_for_name_matching(tmp_path):
    content = {"blobs": {"conv1_w": ARRAY, "conv1_w_momentum": ARRAY}}
    data = read_weights(write(tmp_path / "w.pkl", content))
    assert list(data["model"]) == ["conv1_w"]
    assert data["matching_heuristics"] is True
    assert data["__author__"] == "Caffe2"


def test_read_weights_pickle_of_old_numpy_is_read(tmp_path):
    stream = pickle.dumps({"a.weight": ARRAY}, protocol=2)
    old = stream.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "w.pkl").write_bytes(old)
    np.testing.assert_array_equal(read_weights(tmp_path / "w.pkl")["model"]["a.weight"], ARRAY)


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_read_weights_code_in_file_is_refused_and_not_run(tmp_path, monkeypatch, suffix):
    target = tmp_path / "made_by_pickle"
    monkeypatch.setenv("AMODAL2_TEST_EVIL", str(target))
    path = tmp_path / f"w{suffix}"
    if suffix == ".pkl":
        write(path, {"a": Evil()})
    else:
        torch.save({"a": Evil()}, path)
    with pytest.raises(CheckpointError, match="expected a complete"):
        read_weights(path)
    assert not target.exists()


@pytest.mark.parametrize("kind", ["pickle", "torch", "old_torch", "safetensors"])
def test_read_weights_goes_by_content_not_by_name(tmp_path, kind):
    path, weights = tmp_path / "weights.bin", {"a.weight": torch.from_numpy(ARRAY)}
    if kind == "safetensors":
        save_file(weights, path)
    elif kind == "pickle":
        write(path, {"a.weight": ARRAY})
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "torch")
    stored = read_weights(path)["model"]["a.weight"]
    np.testing.assert_array_equal(np.asarray(stored), ARRAY)


@pytest.mark.parametrize("parameter", [False, True])
def test_read_weights_pickled_tensors_as_of_the_official_tools(tmp_path, parameter):
    """Plain pickle, as convert-pretrained-swin-model-to-d2.py writes it."""
    whole = torch.arange(12.0).reshape(3, 4)
    part = torch.nn.Parameter(whole) if parameter else whole[1:, ::2]
    content = {
        "model": {"a.weight": part},
        "__author__": "third_party",
        "matching_heuristics": True,
    }
    data = read_weights(write(tmp_path / "w.pkl", content))
    assert torch.equal(data["model"]["a.weight"], part)
    assert data["matching_heuristics"] is True


def test_read_weights_code_inside_a_pickled_tensor_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("AMODAL2_TEST_EVIL", str(tmp_path / "made_by_pickle"))

    class Storage:
        def __reduce__(self):
            buffer = io.BytesIO()
            torch.save(Evil(), buffer)
            return torch.storage._load_from_bytes, (buffer.getvalue(),)

    path = write(tmp_path / "w.pkl", {"a.weight": Storage()})
    with pytest.raises(CheckpointError, match="expected a complete"):
        read_weights(path)
    assert not (tmp_path / "made_by_pickle").exists()


def test_read_weights_numbers_of_numpy_beside_the_weights_are_read(tmp_path):
    weights = {"a.weight": torch.from_numpy(ARRAY)}
    torch.save({"model": weights, "best": np.float64(0.5), "at": np.int64(3)}, tmp_path / "w.pth")
    data = read_weights(tmp_path / "w.pth")
    assert (data["best"], data["at"]) == (0.5, 3)


def test_read_weights_state_dict_is_taken_for_the_model(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}, "epoch": 3}, tmp_path / "w.pth")
    data = read_weights(tmp_path / "w.pth")
    assert (list(data["model"]), data["epoch"]) == (["a"], 3)


def test_read_weights_file_of_another_form_names_its_entries(tmp_path):
    torch.save({"net": {"a": torch.ones(1)}, "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"tensors by name in .*, got other entries: net, ep"):
        read_weights(tmp_path / "w.pth")


def test_read_weights_web_page_instead_of_a_file_raises(tmp_path):
    (tmp_path / "w.pkl").write_text("<!DOCTYPE html><html>not found</html>")
    with pytest.raises(CheckpointError, match=r"expected a complete \.pkl file"):
        read_weights(tmp_path / "w.pkl")


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
def test_read_weights_truncated_file_raises(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    tensor = torch.from_numpy(ARRAY)
    if suffix == ".pkl":
        write(path, {"a.weight": ARRAY})
    elif suffix == ".pth":
        torch.save({"a.weight": tensor}, path)
    else:
        save_file({"a.weight": tensor}, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=re.escape(f"expected a complete {suffix} file")):
        read_weights(path)


def test_read_weights_missing_file_raises(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_weights(tmp_path / "absent.pth")


def test_read_weights_list_raises(tmp_path):
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"expected a dict in .*, got list"):
        read_weights(tmp_path / "w.pth")
