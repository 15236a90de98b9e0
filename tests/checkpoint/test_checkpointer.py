"""The checkpointer: what is loaded, what is reported, what survives an interrupted write."""

import logging
import pickle

import pytest
import torch
from torch import nn

from amodal2.checkpoint import AmodalCheckpointer, LoadReport, export_weights
from amodal2.utils.errors import CheckpointError


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.pixel_decoder = nn.Sequential(nn.Linear(2, 2))
        self.predictor = nn.ModuleDict({"query_feat": nn.Embedding(3, 2)})


class Detector(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.sem_seg_head = Head()
        self.class_embed = nn.Linear(2, classes)


def same_weights(a, b):
    left, right = a.state_dict(), b.state_dict()
    return all(torch.equal(left[key], right[key]) for key in left)


def test_checkpointer_save_then_resume_restores_model_and_extras(tmp_path):
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters())
    AmodalCheckpointer(model, tmp_path, optimizer=optimizer).save("model_0000004", iteration=4)
    other = Detector()
    checkpointer = AmodalCheckpointer(
        other, tmp_path, optimizer=torch.optim.AdamW(other.parameters())
    )
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 4
    assert same_weights(model, other)
    assert checkpointer.last_report.exact


@pytest.mark.parametrize("suffix", [".pkl", ".pth", "module.pth"])
def test_checkpointer_old_layout_without_metadata_fits_exactly(tmp_path, suffix):
    source, model = Detector(), Detector()
    state = {
        key.replace(".pixel_decoder", "").replace("query_feat", "static_query"): value
        for key, value in source.state_dict().items()
    }
    path = tmp_path / f"w{suffix}"
    if suffix == ".pkl":
        arrays = {key: value.numpy() for key, value in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}))
    elif suffix == ".pth":
        torch.save({"model": state}, path)
    else:
        torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, path)
    checkpointer = AmodalCheckpointer(model)
    checkpointer.load(str(path))
    assert checkpointer.last_report.exact
    assert same_weights(source, model)


def test_checkpointer_half_precision_export_loads_into_single(tmp_path):
    source, model = Detector(), Detector()
    AmodalCheckpointer(model).load(str(export_weights(source, tmp_path / "w.safetensors")))
    assert model.class_embed.weight.dtype == torch.float32
    torch.testing.assert_close(
        model.class_embed.weight, source.class_embed.weight, atol=1e-3, rtol=0
    )


def test_checkpointer_load_reports_missing_unexpected_and_mismatched(tmp_path, caplog):
    state = Detector(classes=5).state_dict()
    state["extra.weight"] = torch.zeros(1)
    del state["sem_seg_head.pixel_decoder.0.bias"]
    torch.save({"model": state}, tmp_path / "w.pth")
    checkpointer = AmodalCheckpointer(Detector(classes=2))
    with caplog.at_level(logging.WARNING, logger="amodal2"):
        checkpointer.load(str(tmp_path / "w.pth"))
    report = checkpointer.last_report
    assert "sem_seg_head.pixel_decoder.0.bias" in report.missing
    assert report.unexpected == ["extra.weight"]
    assert ("class_embed.weight", (5, 2), (2, 2)) in report.mismatched
    assert "class_embed.weight [5, 2] -> [2, 2]" in caplog.text
    with pytest.raises(CheckpointError, match="expected weights that fit the model"):
        report.require_exact("w.pth")


def test_checkpointer_load_nothing_fits_raises(tmp_path):
    torch.save({"model": {"other.weight": torch.zeros(2)}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="got no fitting key"):
        AmodalCheckpointer(Detector()).load(str(tmp_path / "w.pth"))


def test_checkpointer_load_absent_file_raises(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        AmodalCheckpointer(Detector()).load(str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("moment", ["in_file", "before_tag"])
def test_checkpointer_save_interrupted_keeps_last_checkpoint(tmp_path, monkeypatch, moment):
    checkpointer = AmodalCheckpointer(Detector(), tmp_path)
    checkpointer.save("model_0000001")

    def fail(data, file):
        file.write(b"half a file")
        raise KeyboardInterrupt

    def stop(name):
        raise KeyboardInterrupt

    if moment == "in_file":
        monkeypatch.setattr(torch, "save", fail)
    else:
        monkeypatch.setattr(checkpointer, "tag_last_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_0000003")
    assert checkpointer.get_checkpoint_file().endswith("model_0000001.pth")
    fresh = AmodalCheckpointer(Detector(), tmp_path)
    fresh.resume_or_load("", resume=True)
    assert same_weights(fresh.model, checkpointer.model)


def test_load_report_long_lists_are_cut():
    text = str(LoadReport(missing=[f"layer{i}" for i in range(40)]))
    assert "40 missing from the file" in text
    assert "and 28 more" in text
    assert str(LoadReport()) == "all keys match"
