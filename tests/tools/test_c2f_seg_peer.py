"""The official call pattern of the benchmark reproduces the official outputs, and so do we."""

from __future__ import annotations

import pytest
import torch

from amodal2.modeling.c2f_seg.decoding import GreedyChoice
from tests.conftest import golden_files, load_script
from tests.modeling.c2f_seg import golden, tiny

close = torch.testing.assert_close


@pytest.fixture(scope="module")
def peer():
    return load_script("tools/benchmark.py").load_module("c2f_seg_peer")


@pytest.fixture(scope="module", params=golden_files("c2f_image_*.pt"))
def data(request):
    return golden.read(request.param)


@torch.no_grad()
def test_peer_gives_the_golden_codes_masks_and_logits(peer, data):
    given, expected = data["inputs"], data["outputs"]
    model = golden.fill(golden.transformer(data["config"]["transformer"]), data, "model.")
    vq, refine = golden.autoencoder(data), golden.refinement(data)
    for number in range(2):
        one = slice(number, number + 1)
        visible = expected["vq_idx_vm"][one]
        seen, codes = peer.decode_official(model, given["feat_c5"][one], visible, GreedyChoice())
        assert torch.equal(torch.cat(seen), expected["det_cur_ids"][:, number])
        assert torch.equal(codes, expected["det_final_ids"][one])
        drawn = (given[name][:, one] for name in ("noise_sampled", "noise_gumbel"))
        choice = golden.GivenChoice(*drawn)
        seen, noisy = peer.decode_official(model, given["feat_c5"][one], visible, choice)
        assert torch.equal(torch.cat(seen), expected["noise_cur_ids"][:, number])
        assert torch.equal(noisy, expected["noise_final_ids"][one])
        features = [level[one] for level in golden.features(data)]
        coarse, _, amodal = peer.finish_official(vq, refine, features, codes)
        close(coarse[..., ::4, ::4], expected["det_coarse_sub4"][one], rtol=1e-4, atol=1e-4)
        close(amodal, expected["det_refine_am_logits"][one], rtol=1e-4, atol=1e-4)


def test_peer_gives_our_masks(peer):
    model = tiny.build("C2FSeg").eval()
    images = torch.rand(3, 3, tiny.SIDE, tiny.SIDE)
    visible = tiny.discs(3)
    with torch.no_grad():
        found = peer.complete_official(model, images, visible, GreedyChoice())
    close(found, model.complete(images, visible), rtol=1e-4, atol=1e-5)


def test_cases_have_unique_names_and_one_is_run(capsys):
    tool = load_script("tools/benchmark.py")
    cases = tool.load_module("c2f_seg").completer_cases()
    assert len({case.name for case in cases}) == len(cases) == 6
    options = ["--case", "small_b1", "--rounds", "1", "--threads", "1"]
    threads = torch.get_num_threads()
    try:
        assert tool.main(["completers", *options]) == 0
    finally:
        torch.set_num_threads(threads)
    assert "one object at a time" in capsys.readouterr().out
