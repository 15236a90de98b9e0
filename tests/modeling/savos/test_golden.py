"""SaVos against the outputs of the released code."""

import pytest
import torch

from amodal2.modeling.savos import SavosNetwork
from amodal2.modeling.savos.losses import (
    both_consistency_losses,
    mask_loss,
    photometric_loss,
)
from amodal2.modeling.savos.network import merge_for_losses, merge_frames
from tests.conftest import golden_files
from tests.modeling.savos.golden import FISHBOWL, read


@pytest.fixture(params=golden_files("savos_*.pt"))
def case(request):
    """Give the file's content, the network with its weights, its inputs, and both directions."""
    golden = read(request.param)
    network = golden.fill(SavosNetwork(golden.base, FISHBOWL))
    forward, reverse = network.both_directions(golden.tracks)
    return golden.outputs, network, golden.raw, golden.tracks, forward, reverse


def close(got, expected, tolerance=2e-4):
    torch.testing.assert_close(got.detach(), expected, atol=tolerance, rtol=0)


def test_golden_full_width_has_the_official_number_of_parameters():
    with torch.device("meta"):
        network = SavosNetwork()
    assert sum(p.numel() for p in network.parameters()) == 17_303_124
    assert len(network.state_dict()) == 134


def test_golden_embeddings(case):
    outputs, network, _, tracks, _, _ = case
    for name, one in (("forward", tracks), ("reverse", tracks.reversed())):
        close(network.st_encoder(one.patches[:, :, :6]), outputs[f"embedding_{name}"])


def test_golden_directions_and_merge(case):
    outputs, _, _, _, forward, reverse = case
    close(forward.moved[:, :, :1], outputs["frame_mask_forward"])
    close(forward.moved[:, :, 1:], outputs["frame_alpha_forward"])
    close(forward.motion.permute(0, 1, 3, 4, 2), outputs["frame_flow_forward"])
    close(reverse.moved[:, :, :1], outputs["frame_mask_reverse_unflipped"])
    close(reverse.moved[:, :, 1:], outputs["frame_alpha_reverse_unflipped"])
    close(merge_for_losses(forward, reverse)[:, :, None], outputs["merged"])


def test_golden_last_frame_is_that_of_the_kins_inference(case):
    outputs, _, _, _, forward, reverse = case
    close(merge_frames(forward, reverse)[0, -1], outputs["kins_inference_pred_fm_last2"][0])


def test_golden_losses_and_gradients(case):
    outputs, network, raw, tracks, forward, reverse = case
    merged, counts = merge_for_losses(forward, reverse), raw["counts"]
    rec = mask_loss(merged, raw["vm_nocrop"], raw["loss_mask"], counts)
    consistency = both_consistency_losses(network, merged, forward, reverse, counts)
    colours = photometric_loss(network, tracks, forward, reverse, counts)
    relative = {"rtol": 1e-4, "atol": 0}
    torch.testing.assert_close(rec.detach(), outputs["fishbowl_train_loss_rec"], **relative)
    torch.testing.assert_close(
        consistency.detach(), outputs["fishbowl_train_loss_consist"], **relative
    )
    torch.testing.assert_close(
        (rec + consistency).detach(), outputs["kins_train_loss_total"], **relative
    )
    torch.testing.assert_close(
        colours.detach(), outputs["fishbowl_train_loss_photomatric"], **relative
    )
    (rec + consistency + colours).backward()
    prefix = "grad_fishbowl_train_loss_total/"
    for key in [key for key in outputs if key.startswith(prefix)]:
        got = network.get_parameter(key.removeprefix(prefix)).grad
        scale = outputs[key].abs().max()
        torch.testing.assert_close(got / scale, outputs[key] / scale, rtol=1e-3, atol=1e-3)
