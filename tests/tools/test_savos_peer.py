"""The official call pattern of the benchmark reproduces the official outputs, and so do we."""

from __future__ import annotations

import pytest
import torch

from amodal2.modeling.savos.losses import both_consistency_losses, mask_loss
from amodal2.modeling.savos.network import merge_for_losses
from tests.conftest import golden_files, load_script
from tests.modeling.savos.golden import FISHBOWL, read


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/benchmark.py")


@pytest.mark.parametrize("path", golden_files("savos_*.pt"))
def test_peer_gives_the_golden_masks_motion_and_losses(tool, path):
    golden = read(path)
    peer = tool.load_module("savos_peer").OfficialSavos(base=golden.base, options=FISHBOWL)
    network = golden.fill(peer)
    forward, reverse = network.both_directions(golden.tracks)
    outputs, raw = golden.outputs, golden.raw
    for got, name in (
        (forward.moved[:, :, :1], "frame_mask_forward"),
        (forward.moved[:, :, 1:], "frame_alpha_forward"),
        (forward.motion.permute(0, 1, 3, 4, 2), "frame_flow_forward"),
        (reverse.moved[:, :, :1], "frame_mask_reverse_unflipped"),
        (merge_for_losses(forward, reverse)[:, :, None], "merged"),
    ):
        torch.testing.assert_close(got.detach(), outputs[name], atol=2e-4, rtol=0)
    merged, counts = merge_for_losses(forward, reverse), raw["counts"]
    total = mask_loss(merged, raw["vm_nocrop"], raw["loss_mask"], counts)
    total = total + both_consistency_losses(network, merged, forward, reverse, counts)
    expected = outputs["kins_train_loss_total"]
    torch.testing.assert_close(total.detach(), expected, rtol=1e-4, atol=0)


def test_cases_have_unique_names_and_two_are_run(tool, capsys):
    cases = tool.load_module("savos").savos_cases()
    assert len({case.name for case in cases}) == len(cases) == 16
    options = ["--op", "savos", "--case", "*_small_fishbowl_b1", "--rounds", "1", "--threads", "1"]
    threads = torch.get_num_threads()
    try:
        assert tool.main(["completers", *options]) == 0
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "train_small_fishbowl_b1" in printed
    assert "infer_small_fishbowl_b1" in printed
    assert "whole frames" in printed
