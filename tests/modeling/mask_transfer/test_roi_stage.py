"""The stage behind a detector's heads, whose boxes and masks are made up."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, build_roi_heads
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import ImageList
from torch import nn

from amodal2.config import get_cfg
from amodal2.modeling.mask_transfer.inference import encode_references
from tests.modeling.mask_transfer.toy import crop, proposals, thing


@ROI_HEADS_REGISTRY.register()
class MadeUpHeads(nn.Module):
    """Heads that find what the test puts into ``found``."""

    def __init__(self, cfg, input_shape):
        super().__init__()
        self.found = []

    def forward(self, images, features, proposals, targets=None):
        return (proposals, {"loss_toy": 1.0}) if self.training else (self.found, {})

    def forward_with_given_boxes(self, features, instances):
        return instances


def config(*changes):
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NAME = "TransferROIHeads"
    keys = ("ROI_HEADS", "MadeUpHeads", "L", 32, "STRIDE", 8, "NUM_CONCEPTS", 8, "MASK_SIZE", 28)
    pairs = [f"MODEL.MASK_TRANSFER.{k}" if i % 2 == 0 else k for i, k in enumerate(keys)]
    cfg.merge_from_list(["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64])
    cfg.merge_from_list([*pairs, *changes])
    return cfg


def build(*changes):
    torch.manual_seed(0)
    return build_roi_heads(config(*changes), {"p2": ShapeSpec(channels=8, stride=4)}).eval()


@pytest.fixture
def found():
    """One object with its box and a soft mask of 28 x 28 in it, as Detectron2's heads give them."""
    image, mask = thing(0)
    objects = proposals(mask[None])
    objects.remove("pred_visible_masks")
    objects.pred_masks = torch.ones(1, 1, 28, 28)
    return image, mask, objects


def test_stage_replaces_masks_and_boxes_in_a_form_that_detectron2_pastes(found, tmp_path):
    image, mask, objects = found
    heads = build("MODEL.MASK_TRANSFER.BANK", str(tmp_path / "bank.pth"))
    own, whole = crop(image, mask)
    encode_references(heads.transfer, [own], [whole], [0], ["thing"]).save(tmp_path / "bank.pth")
    heads.heads.found = [objects]
    (result,), losses = heads(ImageList.from_tensors([image], 32), {}, None)
    assert losses == {}
    assert result.pred_masks.shape == (1, 1, 28, 28)
    assert result.mt_ref_id.tolist() == [0]
    assert not result.has("pred_visible_masks")
    final = detector_postprocess(result, 80, 96)
    assert final.pred_masks.shape == (1, 80, 96)
    assert final.pred_masks.any()


def test_stage_gives_the_kinds_of_amodal_heads_in_the_amodal_boxes(found, tmp_path):
    image, mask, objects = found
    heads = build("MODEL.MASK_TRANSFER.BANK", str(tmp_path / "bank.pth"))
    own, whole = crop(image, mask)
    encode_references(heads.transfer, [own], [whole], [0], ["thing"]).save(tmp_path / "bank.pth")
    objects.pred_amodal_masks = objects.pred_visible_masks = objects.pred_masks
    objects.pred_occluder_masks = objects.pred_masks
    heads.heads.found = [objects]
    (result,), _ = heads(ImageList.from_tensors([image], 32), {}, None)
    assert result.pred_amodal_masks.equal(result.pred_masks)
    assert result.pred_visible_masks.shape == (1, 1, 28, 28)
    assert not result.has("pred_occluder_masks")


def test_stage_leaves_training_to_the_heads(found):
    heads = build().train()
    result, losses = heads(None, {}, ["proposal"], ["target"])
    assert (result, losses) == (["proposal"], {"loss_toy": 1.0})
    assert not heads.transfer.training
    assert not [p for p in heads.parameters() if p.requires_grad]
    assert heads.forward_with_given_boxes({}, found) is found


def test_stage_needs_masks_and_a_bank(found):
    image, _, objects = found
    heads = build()
    heads.heads.found = [objects]
    with pytest.raises(ValueError, match=r"got an empty MODEL\.MASK_TRANSFER\.BANK"):
        heads(ImageList.from_tensors([image]), {}, None)


def test_stage_reads_the_network_of_a_checkpoint(tmp_path):
    weights = {f"network.{k}": v + 1 for k, v in build().transfer.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "model.pth")
    read = build("MODEL.MASK_TRANSFER.WEIGHTS", str(tmp_path / "model.pth")).transfer
    assert all(torch.equal(v, weights[f"network.{k}"]) for k, v in read.state_dict().items())
    torch.save({"model": {"head.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="expected weights of MaskTransfer"):
        build("MODEL.MASK_TRANSFER.WEIGHTS", str(tmp_path / "other.pth"))


def test_stage_behind_itself_is_refused():
    with pytest.raises(ValueError, match="to name other heads"):
        build("MODEL.MASK_TRANSFER.ROI_HEADS", "TransferROIHeads")
