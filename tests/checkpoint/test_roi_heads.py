"""Official weights of amodal ROI heads."""

import pytest
import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the heads
from amodal2.checkpoint import AmodalCheckpointer, translate_official
from amodal2.checkpoint.roi_heads import roi_head_name
from tests.modeling.roi_heads.tiny import CLASSES, tiny_config


def as_official(name, state):
    """Return weights of one of our models under the names of its source."""
    head = "roi_heads.mask_head."
    if name == "AISFormer":
        renamed = {k.replace(head, f"{head}mask_head_model."): v for k, v in state.items()}
        renamed[f"{head}mask_head_model.predictor_TR.weight"] = torch.zeros(CLASSES, 1, 1, 1)
        renamed[f"{head}mask_head_model.predictor_TR.bias"] = torch.zeros(CLASSES)
        return renamed
    renamed = {}
    for key, value in state.items():
        for kind in ("amodal", "visible"):
            place = f"roi_heads.{kind}_mask_head."
            key = key.replace(f"{head}{kind}_mask_fcn", f"{place}{kind}_mask_fcn")
            key = key.replace(f"{head}{kind}_", place)
        renamed[key] = value
    return renamed


@pytest.mark.parametrize("name", ["AISFormer", "ORCNNHead"])
def test_official_weights_fill_the_model_exactly(tmp_path, name):
    source = build_model(tiny_config(name))
    official = as_official(name, source.state_dict())
    assert official.keys() != source.state_dict().keys()
    torch.save({"model": official}, tmp_path / "official.pth")
    model = build_model(tiny_config(name))
    checkpointer = AmodalCheckpointer(model)
    checkpointer.load(str(tmp_path / "official.pth"))
    report = checkpointer.last_report
    assert report.exact, str(report)
    assert report.recognised.startswith(
        {"AISFormer": "AISFormer", "ORCNNHead": "MaskJoint or"}[name]
    )
    assert report.recognised.endswith(f"{CLASSES} classes")
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    dropped = {"roi_heads.mask_head.predictor_TR.weight", "roi_heads.mask_head.predictor_TR.bias"}
    assert set(report.dropped) == (dropped if name == "AISFormer" else set())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("roi_heads.amodal_mask_head.deconv.bias", "amodal_deconv.bias"),
        ("roi_heads.visible_mask_head.predictor.weight", "visible_predictor.weight"),
        ("roi_heads.visible_mask_head.visible_mask_fcn3.bias", "visible_mask_fcn3.bias"),
        ("roi_heads.mask_head.mask_head_model.query_embed.weight", "query_embed.weight"),
        ("roi_heads.mask_head.deconv.weight", "deconv.weight"),
    ],
)
def test_names_of_heads(theirs, ours):
    assert roi_head_name(theirs) == f"roi_heads.mask_head.{ours}"
    assert roi_head_name("roi_heads.box_head.fc1.weight") == "roi_heads.box_head.fc1.weight"


def test_second_copies_and_the_re_classifier_of_vrsp_are_left_out():
    names = ["roi_heads.mask_head.recon_net.x", "roi_heads.recon_net.x", "roi_heads.recls.fc.bias"]
    weights = {name: torch.zeros(1) for name in names}
    found = translate_official(weights)
    ours = "roi_heads.mask_head.recls.fc.bias"
    assert list(found.state) == names[:1]
    assert set(found.dropped) == {names[1], ours}
    assert list(translate_official(weights, [ours]).state) == [names[0], ours]


def test_two_names_for_one_parameter_are_refused():
    names = ["roi_heads.mask_head.amodal_deconv.bias", "roi_heads.amodal_mask_head.deconv.bias"]
    with pytest.raises(ValueError, match=r"expected one key for .*amodal_deconv.bias"):
        translate_official({name: torch.zeros(1) for name in names})


def test_weights_of_other_classes_name_the_key(tmp_path):
    torch.save({"model": build_model(tiny_config("AISFormer")).state_dict()}, tmp_path / "a.pth")
    model = build_model(tiny_config("AISFormer", "MODEL.ROI_HEADS.NUM_CLASSES", 5))
    checkpointer = AmodalCheckpointer(model)
    checkpointer.load(str(tmp_path / "a.pth"))
    assert checkpointer.last_report.classes == (CLASSES, 5)
    assert "5 (MODEL.ROI_HEADS.NUM_CLASSES)" in str(checkpointer.last_report)
