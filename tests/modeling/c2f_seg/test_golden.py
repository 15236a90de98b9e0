"""The parts of C2F-Seg reproduce what the official classes gave with the same weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from amodal2.modeling.c2f_seg.decoding import GreedyChoice, decode_codes
from amodal2.modeling.c2f_seg.paste import paste_patch
from amodal2.modeling.c2f_seg.refine import semantic_attention
from tests.conftest import golden_files
from tests.modeling.c2f_seg import golden


@pytest.fixture(scope="module", params=golden_files("c2f_image_*.pt"))
def image(request):
    return golden.read(request.param)


@pytest.fixture(scope="module", params=golden_files("c2f_video_*.pt"))
def video(request):
    return golden.read(request.param)


@pytest.fixture(scope="module")
def vq(image):
    return golden.autoencoder(image)


@pytest.fixture(scope="module")
def coarse_model(image):
    return golden.fill(golden.transformer(image["config"]["transformer"]), image, "model.")


@pytest.fixture(scope="module")
def refine(image):
    return golden.refinement(image)


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_autoencoder_features_codes_and_loss(image, vq):
    visible = image["inputs"]["vm_mask"].float()
    expected = image["outputs"]
    features = vq.encode(visible)
    close(features, expected["vq_z"])
    found = vq.quantize(features)
    assert torch.equal(found.indices, expected["vq_idx_vm"])
    close(found.loss, expected["vq_loss_vm"])
    amodal = image["inputs"]["fm_mask"][:, 0]
    assert torch.equal(vq.indices(amodal), expected["vq_idx_fm"])


@torch.no_grad()
def test_autoencoder_decodes_codes(image, vq):
    indices = image["inputs"]["rand_idx"]
    raw = vq.decode(vq.quantize.lookup(indices, (16, 16)))
    close(raw[..., ::4, ::4], image["outputs"]["vq_decode_rand_idx_sub4"])
    close(vq.coarse_masks(indices), raw.clamp(0, 1))


@torch.no_grad()
def test_transformer_logits_and_loss(image, coarse_model):
    given, expected = image["inputs"], image["outputs"]
    logits = coarse_model(given["feat_c5"], given["tr_c_idx"], given["tr_z_idx"])
    close(logits, expected["tr_logits"])
    loss = F.cross_entropy(logits.transpose(1, 2), expected["vq_idx_fm"], label_smoothing=0.1)
    close(loss, expected["ce_loss"])


@torch.no_grad()
def test_refinement_both_branches_and_attention(image, refine):
    expected = image["outputs"]
    features = golden.features(image)
    coarse = image["inputs"]["refine_coarse_u8"].float() / 255
    visible, amodal = refine(features, coarse)
    close(visible, expected["refine_vm_logits"])
    close(amodal, expected["refine_am_logits"])
    adapted = refine.conv_adapter(features[3])
    close(semantic_attention(adapted, coarse[..., ::16, ::16]), expected["refine_attn"])
    alone = refine(features, coarse, visible=False)
    assert alone[0] is None
    assert torch.equal(alone[1], amodal)


def decode(image, coarse_model, choice):
    """Return the input of every step, its logits, and the last codes."""
    given, expected = image["inputs"], image["outputs"]
    seen, logits = [], []
    condition = coarse_model.condition(given["feat_c5"], expected["vq_idx_vm"])

    def predict(current):
        seen.append(current)
        logits.append(coarse_model.predict(condition, current))
        return logits[-1]

    mask = image["config"]["mask_token"]
    start = torch.full_like(expected["vq_idx_vm"], mask)
    codes = decode_codes(predict, start, mask, choice, steps=3, top_k=3, temperature=4.5)
    return torch.stack(seen), torch.stack(logits), codes


@torch.no_grad()
def test_decoding_without_noise(image, coarse_model, vq, refine):
    given, expected = image["inputs"], image["outputs"]
    seen, logits, codes = decode(image, coarse_model, GreedyChoice())
    assert torch.equal(seen, expected["det_cur_ids"])
    close(logits, expected["det_logits"])
    assert torch.equal(codes, expected["det_final_ids"])
    coarse = vq.coarse_masks(codes)
    close(coarse[..., ::4, ::4], expected["det_coarse_sub4"], 1e-4)
    visible, amodal = refine(golden.features(image), coarse)
    close(amodal, expected["det_refine_am_logits"], 1e-4)
    for found, name, target in (
        (amodal, "det_loss_fm", "fm_mask"),
        (visible, "det_loss_vm", "vm_mask"),
    ):
        found = F.interpolate(found, scale_factor=2.0, mode="nearest")
        loss = F.binary_cross_entropy_with_logits(found, given[target].float())
        close(loss, expected[name], 1e-4)
    probabilities = F.interpolate(amodal, scale_factor=2.0, mode="nearest").sigmoid()
    size = tuple(given["image_hw"].tolist())
    for antialias, name in ((True, "det_pred_fm_fullres_aa"), (False, "det_pred_fm_fullres_noaa")):
        whole = [
            paste_patch(
                patch,
                golden.crop(position, size),
                size,
                padding=tuple(padding.int().tolist()),
                antialias=antialias,
            )
            for patch, position, padding in zip(
                probabilities, given["obj_position"], given["vm_pad"], strict=True
            )
        ]
        close(torch.stack(whole), expected[name], 1e-4)


@torch.no_grad()
def test_decoding_with_given_draws(image, coarse_model):
    given, expected = image["inputs"], image["outputs"]
    choice = golden.GivenChoice(given["noise_sampled"], given["noise_gumbel"])
    seen, _, codes = decode(image, coarse_model, choice)
    assert torch.equal(seen, expected["noise_cur_ids"])
    assert torch.equal(codes, expected["noise_final_ids"])


@torch.no_grad()
def test_video_transformer_logits_of_two_windows_and_one(video):
    config, given = video["config"], video["inputs"]
    model = golden.fill(golden.transformer(config, config["window_length"]), video, "")
    arguments = given["img_feat"], given["c_idx"], given["z_idx"]
    frames, window = config["num_frames"], config["window_length"]
    close(model(*arguments, frames), video["outputs"]["logits"])
    first = [value[:window] for value in arguments]
    close(model(*first, window), video["outputs"]["logits_one_window"])
    twice = [torch.cat([value, value.flip(0)]) for value in arguments]
    both = model(*twice, frames)
    close(both[:frames], video["outputs"]["logits"])
    close(both[frames:], model(*[value.flip(0) for value in arguments], frames))
    model.roll = False
    assert not torch.allclose(model(*arguments, frames), video["outputs"]["logits"], atol=1e-3)


@torch.no_grad()
def test_video_block(video):
    config = video["config"]
    model = golden.fill(golden.transformer(config, config["window_length"]), video, "")
    block = model.blocks[0]
    close(
        block(video["inputs"]["block_x"], config["window_length"]), video["outputs"]["block0_out"]
    )
