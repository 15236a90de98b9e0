"""Training of the VQ model of masks."""

from __future__ import annotations

import logging
from contextlib import nullcontext

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances

from amodal2.data.mappers import ObjectPatchMapper, split_objects
from amodal2.engine import AmodalTrainer
from amodal2.engine.accumulation import add_gradients
from amodal2.modeling.c2f_seg.perceptual import PerceptualLoss, load_perceptual_loss
from amodal2.structures import fields
from tests.engine.toy import make_videos
from tests.modeling.c2f_seg import tiny

G, D = "g_model.", "d_model."


def gradients(model, masks, names):
    """Return the gradients of some of the losses by parameter; those that are None left out."""
    model.zero_grad()
    torch.manual_seed(0)
    losses = model.losses(masks)
    sum(losses[name] for name in names or losses).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_mask_vq_one_backward_pass_gives_both_players_their_gradients():
    model = tiny.build("MaskVQ").train()
    masks = tiny.discs(2)[:, None].float()
    both = gradients(model, masks, ())
    critic = gradients(model, masks, ["loss_discriminator"])
    generator = gradients(
        model, masks, ["loss_reconstruction", "loss_codebook", "loss_adversarial"]
    )
    assert all(name.startswith(D) for name in critic)
    assert all(name.startswith(G) for name in generator)
    assert both.keys() == critic.keys() | generator.keys() == dict(model.named_parameters()).keys()
    for name, gradient in both.items():
        torch.testing.assert_close(gradient, {**critic, **generator}[name], rtol=1e-3, atol=1e-5)


def test_mask_vq_adversarial_gradient_is_scaled_to_the_reconstruction():
    model = tiny.build("MaskVQ").train()
    masks = tiny.discs(2)[:, None].float()
    last = "g_model.decoder.conv_out.weight"
    one = gradients(model, masks, ["loss_reconstruction"])[last].norm()
    other = gradients(model, masks, ["loss_adversarial"])[last].norm()
    unscaled = float(other) / 0.75
    assert 0.5 * float(one) < unscaled <= 1.001 * float(one)


def test_mask_vq_parts_of_a_batch_give_the_generator_the_gradients_of_the_whole():
    model = tiny.build("MaskVQ", "MODEL.C2F_SEG.VQ.ADVERSARIAL_WEIGHT", 0.0).train()
    batch = []
    for mask in tiny.discs(4):
        found = Instances(tuple(mask.shape))
        found.set(fields.GT_AMODAL_MASKS, mask[None])
        batch.append({"instances": found})

    def run(parts):
        model.zero_grad()
        add_gradients(model, batch, parts, seed=lambda: None, autocast=nullcontext)
        return {name: p.grad.clone() for name, p in model.g_model.named_parameters()}

    whole, parts = run(1), run(2)
    for name, gradient in parts.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-3, atol=1e-5)


def test_mask_vq_overfits_two_masks():
    torch.manual_seed(3)
    options = ["INPUT.AMODAL.PATCH_SIZE", 32, "MODEL.C2F_SEG.VQ.DEAD_CODE_AGE", 4]
    model = tiny.build("MaskVQ", *options, "MODEL.C2F_SEG.VQ.ADVERSARIAL_WEIGHT", 0.0).train()
    masks = tiny.discs(2, side=32)
    optimizer = torch.optim.Adam(model.g_model.parameters(), 1e-3, betas=(0.5, 0.9))
    for _ in range(60):
        losses = model.losses(masks[:, None].float())
        optimizer.zero_grad()
        (losses["loss_reconstruction"] + losses["loss_codebook"]).backward()
        optimizer.step()
    assert losses["loss_reconstruction"] < 0.7 * masks.float().mean()  # that of empty masks: 1
    rebuilt = model.g_model.coarse_masks(model.g_model.indices(masks))[:, 0] > 0.5
    overlap = (rebuilt & masks).flatten(1).sum(1) / (rebuilt | masks).flatten(1).sum(1)
    assert overlap.min() > 0.7


def test_mask_vq_replaces_codes_that_nothing_uses():
    model = tiny.build("MaskVQ", "MODEL.C2F_SEG.VQ.DEAD_CODE_AGE", 3).train()
    masks = tiny.discs(2)[:, None].float()
    codes = model.g_model.quantize.embedding.weight
    before = codes.detach().clone()
    for _ in range(3):
        model.losses(masks)
    assert torch.equal(codes, before)
    dead = model.code_age >= 3
    assert 0 < dead.sum() < len(dead)
    model.losses(masks)
    changed = (codes != before).any(1)
    assert torch.equal(changed, dead)
    features = model.g_model.encode(masks).permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
    distances = (codes[dead][:, None] - features).norm(dim=2)
    assert distances.min(1).values.max() < 1e-5


def test_mask_vq_official_never_replaces_codes():
    model = tiny.build("MaskVQ", "MODEL.C2F_SEG.VQ.DEAD_CODE_AGE", 0).train()
    before = model.g_model.quantize.embedding.weight.detach().clone()
    model.code_age.fill_(1000)
    model.losses(tiny.discs(1)[:, None].float())
    assert torch.equal(model.g_model.quantize.embedding.weight, before)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_mask_vq_trains_two_iterations_and_resumes(kind, tmp_path):
    dicts = tiny.images(tmp_path) if kind == "image" else make_videos(tmp_path, 1)
    name = f"c2f_vq_{kind}_{tmp_path.name}"
    DatasetCatalog.register(name, lambda: dicts)
    options = ["DATASETS.TRAIN", (name,), "OUTPUT_DIR", str(tmp_path / "out")]
    if kind == "video":
        options += ["INPUT.AMODAL.MAPPER", "ObjectClipMapper"]
        options += ["INPUT.AMODAL.CLIP_LEN", 1, "INPUT.AMODAL.NUM_CLIPS", 1]
    trainer = AmodalTrainer(tiny.config("MaskVQ", *options))
    trainer.train()
    again = AmodalTrainer(tiny.config("MaskVQ", *options, "SOLVER.MAX_ITER", 3))
    again.resume_or_load(resume=True)
    assert again.start_iter == 2
    assert torch.equal(again.model.code_age, trainer.model.code_age)


def test_mask_vq_reconstructs_in_evaluation(tmp_path):
    model = tiny.build("MaskVQ").eval()
    mapper = ObjectPatchMapper(is_train=False, size=tiny.SIDE)
    found = model([mapper(item) for item in split_objects(tiny.images(tmp_path))[:2]])
    assert [one["masks"].shape for one in found] == [(tiny.SIDE, tiny.SIDE)] * 2
    assert all(0 <= one["iou"] <= 1 for one in found)


def test_mask_vq_log_says_that_there_is_no_lpips(caplog):
    with caplog.at_level(logging.INFO, "amodal2"):
        tiny.build("MaskVQ")
    assert "L1 without LPIPS (MODEL.C2F_SEG.VQ.LPIPS_WEIGHTS is empty)" in caplog.text


@pytest.mark.slow
def test_perceptual_loss_reads_both_layouts(tmp_path):
    torch.manual_seed(2)
    model = PerceptualLoss()
    state = model.state_dict()
    heads = {n: v.abs() for n, v in state.items() if n.startswith("lin")}
    vgg = {
        "features." + n.removeprefix("net.").partition(".")[2]: v
        for n, v in state.items()
        if n.startswith("net.")
    }
    torch.save(heads, tmp_path / "vgg.pth")
    torch.save({**vgg, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg16.pth")
    with pytest.raises(ValueError, match=r"26 names less, such as net\.slice1\.0\.weight"):
        load_perceptual_loss(str(tmp_path / "vgg.pth"))
    two = load_perceptual_loss(f"{tmp_path / 'vgg.pth'},{tmp_path / 'vgg16.pth'}")
    official = {f"perceptual_loss.{n}": v for n, v in two.state_dict().items()}
    torch.save({"g_model": {}, "d_model": official}, tmp_path / "vqgan_X.pth")
    one = load_perceptual_loss(str(tmp_path / "vqgan_X.pth"))
    masks = tiny.discs(4, side=32)[:, None].float()
    distance = two(masks[:2], masks[2:])
    assert distance.shape == (2, 1, 1, 1)
    assert (distance > 0).all()
    assert torch.equal(one(masks[:2], masks[2:]), distance)
    assert two(masks, masks).abs().max() == 0
    assert not two.train().training
