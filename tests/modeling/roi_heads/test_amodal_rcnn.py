"""The detector around the heads."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.modeling.roi_heads.tiny import FPN_KEYS, make_sample, tiny_config


@pytest.mark.parametrize("backbone", [[], FPN_KEYS], ids=["one level", "pyramid"])
def test_amodal_rcnn_loses_as_the_stock_detector(backbone):
    models = [
        build_model(tiny_config("ORCNNHead", *backbone, "MODEL.META_ARCHITECTURE", architecture))
        for architecture in ("GeneralizedRCNN", "GeneralizedRCNNAmodal")
    ]
    models[1].load_state_dict(models[0].state_dict())
    losses = []
    for model in models:
        torch.manual_seed(3)
        with EventStorage():
            losses.append(model([make_sample()]))
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        assert torch.equal(value, losses[1][name]), name


def test_amodal_rcnn_takes_true_boxes():
    key = "MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES"
    model = build_model(tiny_config("MaskJointHead", key, True)).eval()
    sample = make_sample()
    with torch.no_grad():
        (output,) = model([{**sample, "height": 128, "width": 192}])
    found = output["instances"]
    assert torch.equal(found.pred_boxes.tensor, 2 * sample["instances"].gt_boxes.tensor)
    assert found.scores.tolist() == [1.0, 1.0]
    assert found.pred_visible_masks.shape == (2, 128, 192)
    sample.pop("instances")
    with pytest.raises(ValueError, match="expected samples with 'instances'"):
        model([sample])


def test_amodal_rcnn_without_masks_finds_boxes():
    model = build_model(tiny_config("MaskJointHead", "MODEL.MASK_ON", False)).eval()
    with torch.no_grad():
        (output,) = model([make_sample()])
    assert set(output["instances"].get_fields()) == {"pred_boxes", "pred_classes", "scores"}


@pytest.mark.parametrize(("key", "value"), [("OUTPUT_KINDS", ("whole",)), ("INVISIBLE", "guessed")])
def test_amodal_rcnn_refuses_unknown_choices(key, value):
    with pytest.raises(ValueError, match="GeneralizedRCNNAmodal: expected"):
        build_model(tiny_config("MaskJointHead", f"MODEL.AMODAL_RCNN.{key}", value))


@pytest.mark.parametrize("head", ["AmodalMaskRCNNHead", "VRSPHead"])
def test_amodal_rcnn_trains_the_mask_head_alone(head):
    torch.manual_seed(0)
    cfg = tiny_config(head, *FPN_KEYS, "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0)
    cfg.MODEL.AMODAL_RCNN.TRAIN_MASK_HEAD_ONLY = True
    model = build_model(cfg).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with EventStorage():
        losses = model([make_sample()])
    sum(losses.values()).backward()
    optimizer.step()
    assert losses["loss_amodal_mask"] > 0
    assert all(name.startswith("loss_") and "rpn" not in name for name in losses)
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert all(name.startswith("roi_heads.mask_head.") for name in changed)
    assert not any("recon_net" in name for name in changed)
