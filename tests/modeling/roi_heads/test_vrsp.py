"""VRSP's second look, shape codebook and rescoring."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage

from amodal2.checkpoint import write_weights
from amodal2.modeling.roi_heads.reclassifier import reclassification_loss
from amodal2.modeling.roi_heads.shape_codebook import (
    ShapeAutoencoder,
    ShapeCodebook,
    load_shapes,
    shape_tensors,
)
from amodal2.modeling.roi_heads.shape_learning import ShapeSettings, cluster, learn_shapes
from tests.modeling.roi_heads.tiny import make_regions, tiny_config


def build(*changes):
    cfg = tiny_config("VRSPHead", *changes)
    return ROI_MASK_HEAD_REGISTRY.get("VRSPHead")(cfg, ShapeSpec(channels=16))


@pytest.fixture
def squares():
    """Masks of two classes: wide and high bars."""
    masks = torch.zeros(40, 28, 28, dtype=torch.bool)
    for i in range(40):
        first, last = 4 + i % 5, 18 + i % 7
        if i % 2:
            masks[i, 10:18, first:last] = True
        else:
            masks[i, first:last, 10:18] = True
    return masks, torch.arange(40) % 2


def test_vrsp_refines_what_it_stores():
    head = build().eval()
    torch.nn.init.normal_(head.amodal_predictor.weight)
    torch.nn.init.normal_(head.visible_predictor.weight)
    x = torch.randn(2, 16, 14, 14)
    found = Instances((64, 96), pred_classes=torch.tensor([0, 2]))
    with torch.no_grad():
        head(x, [found])
        coarse = head.layers(x)["amodal"][[0, 1], [0, 2]].sigmoid()
    assert not torch.allclose(found.pred_amodal_masks[:, 0], coarse, atol=1e-3)


def test_vrsp_attention_hides_what_is_outside():
    head = build("MODEL.VRSP.SHAPE_PRIOR", False).eval()
    inside = torch.full((1, 3, 28, 28), -40.0)
    inside[:, :, :, :14] = 40.0
    x = torch.randn(1, 16, 14, 14)
    changed = x.clone()
    changed[..., 9:] += 5  # outside the coarse amodal mask
    classes = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        one, other = (
            head._refine(value, {"amodal": inside}, classes, None)[0]["visible"]
            for value in (x, changed)
        )
    assert torch.allclose(one, other, atol=1e-5)


def test_vrsp_has_losses_of_three_passes():
    with EventStorage():
        losses = build()(torch.randn(2, 16, 14, 14), [make_regions()])
    passes = {f"loss_{kind}_{part}" for kind in ("amodal", "visible")
              for part in ("mask", "refined", "guided")}  # fmt: skip
    assert set(losses) == passes | {"loss_feature_matching"}
    # Predictors start near zero: no coarse mask overlaps enough to weigh its loss by one.
    assert losses["loss_amodal_refined"] < losses["loss_amodal_mask"]
    assert losses["loss_amodal_guided"].item() == pytest.approx(math.log(2), abs=0.1)


def test_vrsp_reads_learned_shapes(tmp_path, squares):
    net, codes = learn_shapes(*squares, ShapeSettings(epochs=2, codes=6))
    path = write_weights(shape_tensors(net, codes), tmp_path / "s.safetensors", fp16=False)
    head = build("MODEL.VRSP.SHAPES", str(path), "MODEL.VRSP.NEIGHBOURS", 4)
    assert torch.equal(head.recon_net.outconv[0].weight, net.outconv[0].weight)
    assert len(head.codebook.class_1) == 6
    assert not any(name.startswith("codebook") for name in head.state_dict())
    with EventStorage():
        losses = head(torch.randn(2, 16, 14, 14), [make_regions()])
    sum(losses.values()).backward()
    assert head.fuse_layer.weight.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in head.recon_net.parameters())


def test_vrsp_rescoring_keeps_what_looks_like_its_class(tmp_path, squares):
    settings = ShapeSettings(epochs=60, learning_rate=2e-2, augment=False)
    net, codes = learn_shapes(*squares, settings)
    path = write_weights(shape_tensors(net, codes), tmp_path / "s.safetensors", fp16=False)
    head = build("MODEL.VRSP.SHAPES", str(path), "MODEL.VRSP.RESCORE_ALPHA", 3.0).eval()
    found = Instances(
        (64, 96), pred_classes=torch.tensor([1, 0]), scores=torch.tensor([0.64, 0.64])
    )
    found.pred_amodal_masks = squares[0][1].float().expand(2, 1, 28, 28)  # a wide bar, twice
    with torch.no_grad():
        head._rescore([found])
    right, wrong = found.scores.tolist()
    assert wrong < right <= 0.8
    assert right == pytest.approx(0.8, abs=0.02)


def test_vrsp_code_of_probabilities_or_logits():
    logits = {"amodal": 6 * torch.randn(1, 3, 28, 28)}
    classes = torch.tensor([1])
    fixed, official = build(), build("MODEL.VRSP.CODE_INPUT", "official_logits")
    official.load_state_dict(fixed.state_dict())
    own = fixed.recon_net
    for head, masks in ((fixed, logits["amodal"].sigmoid()), (official, logits["amodal"])):
        shapes = head._shapes(logits, classes)
        expected = torch.nn.functional.avg_pool2d(own.decode(own.encode(masks[:, 1])), 2)
        assert shapes.shape == (1, 16, 14, 14)
        assert torch.allclose(shapes[:, 3], expected, atol=1e-6)


def test_codebook_gives_the_nearest_of_the_same_class():
    book = ShapeCodebook({0: torch.tensor([[0.0, 0.0], [5.0, 5.0], [1.0, 1.0]]),
                          2: torch.tensor([[9.0, 9.0]])})  # fmt: skip
    queries = torch.tensor([[4.0, 4.0], [0.0, 0.0], [7.0, 7.0]])
    found = book.nearest(queries, torch.tensor([0, 2, 1]), 2)
    assert found[0].tolist() == [[5.0, 5.0], [1.0, 1.0]]
    assert found[1].tolist() == [[9.0, 9.0], [9.0, 9.0]]
    assert found[2].tolist() == [[7.0, 7.0], [7.0, 7.0]]


def test_autoencoder_codes_have_the_official_size():
    net = ShapeAutoencoder()
    codes = net.encode(torch.zeros(2, 28, 28))
    assert codes.shape == (2, 392)
    assert net.decode(codes[:, None]).shape == (2, 1, 28, 28)


def test_learn_shapes_lowers_the_error_and_is_repeatable(squares):
    masks = squares[0].float()
    errors = []
    for epochs in (1, 30):
        net, codes = learn_shapes(*squares, ShapeSettings(epochs=epochs, augment=False))
        errors.append((net.decode(net.encode(masks)) - masks).square().mean().item())
    assert errors[1] < 0.7 * errors[0]
    assert {index: len(values) for index, values in codes.items()} == {0: 20, 1: 20}
    again = learn_shapes(*squares, ShapeSettings(epochs=30, augment=False))[1]
    assert all(torch.equal(codes[index], again[index]) for index in codes)


def test_cluster_finds_the_centres_of_groups():
    points = torch.cat([torch.randn(30, 2) * 0.1 + centre for centre in (0.0, 10.0)])
    centres = cluster(points, 2, torch.Generator().manual_seed(1))
    assert sorted(round(value) for value in centres[:, 0].tolist()) == [0, 10]
    assert torch.equal(cluster(points, 60, torch.Generator()), points)


def test_shapes_that_do_not_fit_are_refused(tmp_path, squares):
    with pytest.raises(FileNotFoundError, match="make it with tools"):
        build("MODEL.VRSP.SHAPES", str(tmp_path / "none.safetensors"))
    path = write_weights({"codes.5": torch.zeros(1, 392)}, tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match=r"classes below 3, got 0 parameters and classes \[5\]"):
        load_shapes(path, 3)
    with pytest.raises(ValueError, match="at least one mask"):
        learn_shapes(squares[0][:0], squares[1][:0], ShapeSettings())


RECLASSIFIER = ["MODEL.VRSP.RECLASSIFIER.ENABLED", True, "MODEL.VRSP.RECLASSIFIER.CONV_DIMS", (4,)]
RECLASSIFIER += ["MODEL.VRSP.RECLASSIFIER.FC_DIMS", (8,)]


def test_reclassifier_learns_classes_with_the_names_of_the_source():
    head = build(*RECLASSIFIER)
    names = {name.split(".", 1)[1] for name in head.state_dict() if name.startswith("recls.")}
    assert names == {f"{part}.{kind}" for part in ("conv1", "fc1", "recls")
                     for kind in ("weight", "bias")}  # fmt: skip
    with EventStorage():
        losses = head(torch.randn(2, 16, 14, 14), [make_regions()])
        losses["loss_reclassification"].backward()
        assert head.recls.conv1.weight.grad.abs().sum() > 0
        assert head.visible_predictor.weight.grad is None
        empty = head(torch.randn(0, 16, 14, 14), [make_regions()[:0]])
    assert empty["loss_reclassification"] == 0


def test_reclassification_loss_weighs_regions():
    logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
    loss = reclassification_loss(logits, torch.tensor([0, 1]), torch.tensor([0.5, 0.0]))
    assert loss.item() == pytest.approx(0.25 * math.log(2))


def test_reclassifier_lowers_scores_where_it_disagrees():
    head = build(*RECLASSIFIER, "MODEL.VRSP.RECLASSIFIER.RESCORING", True).eval()
    with torch.no_grad():
        head.recls.recls.weight.zero_()
        head.recls.recls.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
    found = [
        Instances((64, 96), pred_classes=torch.tensor([0, 2]), scores=torch.tensor([0.5, 0.5])),
        Instances((64, 96), pred_classes=torch.zeros(0, dtype=torch.int64), scores=torch.zeros(0)),
    ]
    with torch.no_grad():
        head(torch.randn(2, 16, 14, 14), found)
    assert found[0].scores.tolist() == pytest.approx([0.5, 0.3])
    assert len(found[1].scores) == 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["MODEL.VRSP.CODE_INPUT", "masks"], "CODE_INPUT of .* got 'masks'"),
        (["MODEL.VRSP.RESCORE_ALPHA", 0.5], "RESCORE_ALPHA above 1"),
        (
            [
                *RECLASSIFIER[:2],
                "MODEL.VRSP.RECLASSIFIER.CONV_DIMS",
                (),
                "MODEL.VRSP.RECLASSIFIER.FC_DIMS",
                (),
            ],
            "expected a layer in",
        ),
        (
            ["MODEL.VRSP.RESCORE_ALPHA", 3.0, "MODEL.VRSP.SHAPE_PRIOR", False],
            "SHAPE_PRIOR True, or 0, got 3.0 and False",
        ),
    ],
)
def test_vrsp_refuses_unknown_choices(keys, message):
    with pytest.raises(ValueError, match=message):
        build(*keys)
