import pytest
import torch

from amodal2.config import get_cfg
from amodal2.modeling.mask_transfer.inference import encode_references
from amodal2.modeling.mask_transfer.model import MaskTransfer
from amodal2.modeling.mask_transfer.network import build_network
from tests.modeling.mask_transfer.toy import crop, proposals, thing, toy_network


def build_model(network=None, **arguments):
    arguments = {"pixel_mean": (0.0,) * 3, "pixel_std": (50.0,) * 3} | arguments
    return MaskTransfer(network=network or toy_network(), **arguments)


def pixels(image):
    return (50 * image + 128).clamp(0, 255).to(torch.uint8)


def sample():
    """A half-hidden thing with a positive, a negative and an undecided reference."""
    image, mask = thing(0)
    own, full = crop(image, mask)
    other, whole = crop(*thing(1))
    return {
        "image": pixels(image[:, 4:36, 4:28]),
        "mask": mask[4:36, 4:28],
        "amodal_box": (0.0, 0.0, 40.0, 32.0),
        "references": [
            {"image": pixels(own), "mask": full, "overlap": 1.0},
            {"image": pixels(other), "mask": whole, "overlap": 0.3},
            {"image": pixels(other), "mask": whole, "overlap": 0.65},
        ],
        "around": {
            "image": pixels(image),
            "visible": mask & (torch.arange(48) < 28),
            "others": torch.zeros_like(mask),
            "amodal": mask,
            "origin": (-4, -4),
        },
    }


def test_refinement_learns_with_the_rest_fixed():
    torch.manual_seed(0)
    model = build_model(toy_network(refine=True), train_parts=("refine",)).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in model.network.refine.parameters()}
    optimizer = torch.optim.Adam(trained, lr=2e-2)
    history = []
    for _ in range(25):
        losses = model([sample()])
        assert set(losses) == {"loss_refine"}
        optimizer.zero_grad()
        losses["loss_refine"].backward()
        optimizer.step()
        history.append(float(losses["loss_refine"].detach()))
    assert history[-1] < 0.7 * history[0]
    nothing = sample() | {"references": []}
    loss = model([nothing])["loss_refine"]
    loss.backward()
    assert loss == 0


def test_training_lowers_every_loss():
    torch.manual_seed(0)
    model = build_model(gt_scale=0.5).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        torch.manual_seed(1)
        losses = model([sample(), sample()])
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert set(history[0]) == {"loss_scale", "loss_vote", "loss_score"}
    assert all(history[-1][name] < 0.8 * history[0][name] for name in history[0])


@pytest.mark.parametrize(
    ("parts", "trained"),
    [
        (("scale",), {"scale_net"}),
        (("vote",), {"encoder", "vote"}),
        (("score",), {"encoder", "score"}),
    ],
)
def test_only_the_named_parts_are_trained(parts, trained):
    model = build_model(train_parts=parts).train()
    losses = model([sample()])
    assert set(losses) == {f"loss_{part}" for part in parts}
    sum(losses.values()).backward()
    found = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None}
    assert found == trained
    fixed = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert not fixed & trained


def test_samples_without_usable_references_give_zero_losses():
    model = build_model().train()
    one = sample()
    one["references"] = one["references"][2:]
    losses = model([one])
    assert float(losses["loss_vote"].detach()) == float(losses["loss_score"].detach()) == 0.0
    sum(losses.values()).backward()
    assert float(losses["loss_scale"].detach()) > 0


def test_measure_pairs_knows_the_true_centre():
    model = build_model().eval()
    image, mask = thing(0)
    own, whole = crop(image, mask)
    one = {
        "image": pixels(own),
        "mask": whole,
        "amodal_box": (0.0, 0.0, 40.0, 32.0),
        "references": [{"image": pixels(own), "overlap": 1.0}],
    }
    with torch.no_grad():
        model.network.vote.weight.zero_()
        model.network.vote.weight[:, 1, 1] = 1
        pairs, ratio = model.measure_pairs([one])
    assert ratio.tolist() == pytest.approx([0.0])
    assert pairs.positive.tolist() == [True]
    assert pairs.centre_errors().tolist() == [[0.0, 0.0]]


def test_inference_needs_a_bank_and_masks(tmp_path):
    image, mask = thing(0)
    objects = proposals(mask[None])
    with pytest.raises(ValueError, match=r"got an empty MODEL.MASK_TRANSFER.BANK"):
        build_model().eval()([{"image": pixels(image), "proposals": objects}])
    objects.remove("pred_visible_masks")
    with pytest.raises(ValueError, match="expected proposals with one of"):
        build_model().eval()([{"image": pixels(image), "proposals": objects}])


def test_inference_with_a_bank_completes_the_proposals(tmp_path):
    network = toy_network()
    image, mask = thing(0)
    model = build_model(network, bank=str(tmp_path / "bank.pth")).eval()
    own, whole = crop(model.normalize(pixels(image)), mask)
    encode_references(network, [own], [whole], [0], ["thing"]).save(tmp_path / "bank.pth")
    (output,) = model([{"image": pixels(image), "proposals": proposals(mask[None])}])
    assert output["instances"].mt_ref_id.tolist() == [0]
    assert output["instances"].pred_amodal_masks.shape == (1, 40, 48)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"train_parts": ("mask",)}, "TRAIN of"),
        ({"train_parts": ()}, "TRAIN of"),
        ({"tau_pos": 0.5, "tau_neg": 0.6}, "TAU_NEG < TAU_POS"),
    ],
)
def test_bad_settings_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        build_model(**arguments)


def test_build_network_unknown_strides_are_refused():
    cfg = get_cfg()
    cfg.MODEL.MASK_TRANSFER.STRIDE = 32
    with pytest.raises(ValueError, match=r"STRIDE of \[8, 16\], got 32"):
        build_network(cfg)
