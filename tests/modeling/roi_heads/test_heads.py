"""What every head must do: learn, predict in given boxes, and cope with nothing."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from amodal2.modeling.roi_heads.mask_kinds import PRED_FIELDS
from tests.modeling.roi_heads.tiny import CLASSES, make_regions, make_sample, tiny_config

HEADS = {
    "AmodalMaskRCNNHead": {"amodal"},
    "MaskJointHead": {"amodal", "visible"},
    "ORCNNHead": {"amodal", "visible", "invisible"},
    "AISFormer": {"amodal", "visible", "occluder", "invisible"},
    "AISFormerDeep": {"amodal", "visible", "occluder", "invisible"},
    "BCNet": {"amodal", "occluder"},
    "VRSPHead": {"amodal", "visible"},
}
"""Head -> kinds that it predicts."""


def make_head(name, *changes):
    head = ROI_MASK_HEAD_REGISTRY.get(name)(tiny_config(name, *changes), ShapeSpec(channels=16))
    return head


def train_step(head, regions, features=None):
    """Return the losses of some regions, whose gradients must reach every trainable parameter."""
    if features is None:
        features = torch.randn(sum(map(len, regions)), 16, 14, 14)
    with EventStorage():
        losses = head.train()(features, regions)
    sum(losses.values()).backward()
    return {name: value.item() for name, value in losses.items()}


@pytest.mark.parametrize("name", HEADS)
class TestHead:
    """Each head by itself."""

    def test_losses_are_finite_and_reach_every_parameter(self, name):
        head = make_head(name)
        losses = train_step(head, [make_regions(), make_regions(1)])
        assert {f"loss_{kind}_mask" for kind in HEADS[name]} <= losses.keys()
        assert all(0 < value < 100 for value in losses.values())
        untouched = [n for n, p in head.named_parameters() if p.requires_grad and p.grad is None]
        assert untouched == []

    def test_losses_and_masks_under_autocast(self, name):
        head = make_head(name)
        with torch.autocast("cpu", torch.bfloat16):
            losses = train_step(head, [make_regions()])
            found = Instances((64, 96), pred_classes=torch.tensor([2, 0]))
            with torch.no_grad():
                head.eval()(torch.randn(2, 16, 14, 14), [found])
        assert all(0 < value < 100 for value in losses.values())
        assert found.pred_masks.dtype == torch.float32  # bfloat16 cannot place them exactly

    def test_losses_without_foreground_are_zero_with_gradients(self, name):
        head = make_head(name)
        expected = train_step(make_head(name), [make_regions()]).keys()
        losses = train_step(head, [make_regions(0)])
        assert losses.keys() == expected
        assert set(losses.values()) == {0.0}
        assert all(p.grad is not None for p in head.parameters() if p.requires_grad)
        assert all(torch.isfinite(value).all() for value in head.state_dict().values())

    def test_losses_of_missing_kinds_are_zero(self, name):
        plain = make_regions()
        for field in ("gt_visible_masks", "gt_amodal_masks", "gt_occluder_masks"):
            plain.remove(field)  # gt_masks, the amodal ones, are left
        losses = train_step(make_head(name), [plain])
        assert losses["loss_amodal_mask"] > 0
        others = [losses[f"loss_{kind}_mask"] for kind in HEADS[name] - {"amodal"}]
        assert others == [0.0] * len(others)

    def test_weights_of_losses_can_be_changed(self, name):
        keys = ["MODEL.ROI_MASK_HEAD.LOSS_WEIGHTS.AMODAL", 3.0]
        features = torch.randn(2, 16, 14, 14)
        plain, changed = make_head(name), make_head(name, *keys)
        changed.load_state_dict(plain.state_dict())
        torch.manual_seed(0)
        one = train_step(plain, [make_regions()], features)["loss_amodal_mask"]
        torch.manual_seed(0)
        three = train_step(changed, [make_regions()], features)["loss_amodal_mask"]
        assert three == pytest.approx(3 * one / plain.weights["amodal"], rel=1e-5)

    def test_masks_are_probabilities_of_each_kind(self, name):
        head = make_head(name).eval()
        found = [
            Instances((64, 96), pred_classes=torch.tensor([2, 0])),
            Instances((64, 96), pred_classes=torch.zeros(0, dtype=torch.int64)),
        ]
        with torch.no_grad():
            first, second = head(torch.randn(2, 16, 14, 14), found)
        fields = {PRED_FIELDS[kind] for kind in HEADS[name]} | {"pred_masks"}
        assert set(first.get_fields()) == fields | {"pred_classes"}
        assert first.pred_masks is first.pred_amodal_masks
        for field in fields:
            mask = first.get(field)
            assert mask.shape == (2, 1, 28, 28)
            assert 0 <= mask.min() <= mask.max() <= 1
            assert second.get(field).shape == (0, 1, 28, 28)

    @pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "GeneralizedRCNNAmodal"])
    def test_detector_learns_and_predicts(self, name, architecture):
        model = build_model(tiny_config(name, "MODEL.META_ARCHITECTURE", architecture))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        with EventStorage():
            for _ in range(2):
                losses = model([make_sample(), make_sample(0)])
                sum(losses.values()).backward()
                optimizer.step()
        assert all(torch.isfinite(value) for value in losses.values())
        assert {f"loss_{kind}_mask" for kind in HEADS[name]} <= losses.keys()
        with torch.no_grad():
            (output,) = model.eval()([make_sample()])
        found = output["instances"]
        assert found.has("pred_masks")
        assert found.pred_masks.shape[1:] == (64, 96)

    def test_given_boxes_get_masks(self, name):
        model = build_model(tiny_config(name)).eval()
        truth = make_sample()["instances"]
        boxes = Boxes(torch.cat((truth.gt_boxes.tensor, torch.full((1, 4), 20.0))))
        classes = torch.cat((truth.gt_classes, truth.gt_classes[:1]))
        given = Instances((64, 96), pred_boxes=boxes, pred_classes=classes)
        with torch.no_grad():
            (output,) = model.inference([make_sample()], [given])
        found = output["instances"]
        assert len(found) == 2  # a box of zero size is dropped
        kinds = HEADS[name] - {"invisible"}
        assert all(found.get(PRED_FIELDS[k]).shape == (2, 64, 96) for k in kinds)


@pytest.mark.parametrize("name", ["AmodalMaskRCNNHead", "MaskJointHead", "ORCNNHead", "VRSPHead"])
def test_head_can_be_class_agnostic(name):
    head = make_head(name, "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True)
    logits = head.layers(torch.randn(2, 16, 14, 14))
    assert {value.shape[1] for value in logits.values()} == {1}
    assert train_step(head, [make_regions()])["loss_amodal_mask"] > 0


def test_head_refuses_unknown_choices():
    with pytest.raises(ValueError, match=r"ORCNNHead: expected one of .*official_xor.*, got 'x'"):
        make_head("ORCNNHead", "MODEL.ROI_MASK_HEAD.INVISIBLE_TARGET", "x")


def test_orcnn_invisible_logits_are_the_difference():
    head = make_head("ORCNNHead")
    x = torch.randn(2, 16, 14, 14)
    logits = head.layers(x)
    assert logits["amodal"].shape == (2, CLASSES, 28, 28)
    assert torch.equal(logits["invisible"], logits["amodal"] - logits["visible"].relu())
    torch.nn.init.zeros_(head.visible_predictor.weight)
    logits = head.layers(x)
    assert torch.equal(logits["invisible"], logits["amodal"])


def test_amodal_mask_rcnn_has_the_layers_of_detectron2():
    cfg = tiny_config("MaskRCNNConvUpsampleHead")
    stock = ROI_MASK_HEAD_REGISTRY.get("MaskRCNNConvUpsampleHead")(cfg, ShapeSpec(channels=16))
    head = make_head("AmodalMaskRCNNHead")
    head.load_state_dict(stock.state_dict())
    x = torch.randn(2, 16, 14, 14)
    assert torch.equal(head.layers(x)["amodal"], stock.layers(x))
