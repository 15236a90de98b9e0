"""The peer with the official calls gives the official results, and so ours."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the models
from tests.conftest import golden_files, load_script
from tests.modeling.mask_classification.test_golden import (
    _ffn_width,
    build_head,
    build_vita,
    close,
)
from tests.modeling.tiny import make_sample, tiny_config


@pytest.fixture(scope="module")
def peer():
    return load_script("tools/benchmark.py").load_module("call_pattern")


def parts(golden: dict) -> dict[str, dict]:
    """State of each part of a golden file, without its prefix."""
    found = {"sem_seg_head": {}, "vita_module": {}}
    for key, value in golden["state_dict"].items():
        prefix, _, name = key.partition(".")
        found[prefix][name] = value
    return found


@pytest.mark.parametrize("path", golden_files("mask2former_*.pt"))
def test_official_calls_of_mask2former_reproduce_the_golden_outputs(peer, path: Path) -> None:
    golden = torch.load(path, weights_only=True)
    config, features = golden["config"], golden["inputs"]["features"]
    head = build_head(config, features, queries=config["num_queries"], mask_dim=config["mask_dim"])
    head.load_state_dict(parts(golden)["sem_seg_head"], strict=True)
    peer.use_official_calls(head)
    assert type(head.predictor) is peer.OfficialDecoder
    expected = golden["outputs"]
    with torch.no_grad():
        mask_features, _, levels = head.pixel_decoder(features)
        output = head.predictor.train()(levels, mask_features)
    close(mask_features, expected["mask_features"])
    for ours, theirs in zip(levels, expected["multi_scale_features"], strict=True):
        close(ours, theirs)
    everything = [*expected["aux_outputs"], expected]
    for ours, theirs in zip(output.predictions, everything, strict=True):
        close(ours.class_logits, theirs["pred_logits"])
        close(ours.mask_logits, theirs["pred_masks"])


@pytest.mark.parametrize("path", golden_files("vita_*.pt"))
def test_official_calls_of_vita_reproduce_the_golden_outputs(peer, path: Path) -> None:
    golden = torch.load(path, weights_only=True)
    config, features = golden["config"], golden["inputs"]["features"]
    widths = config | {"dim_feedforward": _ffn_width(golden["state_dict"])}
    queries, mask_dim = config["num_frame_queries"], config["mask_dim"]
    head = build_head(widths, features, queries=queries, mask_dim=mask_dim).eval()
    vita = build_vita(config, config["vita_enc_window_size"])
    for part, state in zip((head, vita), parts(golden).values(), strict=True):
        part.load_state_dict(state, strict=True)
        peer.use_official_calls(part)
    expected = golden["outputs"]
    with torch.no_grad():
        output, fine = head(features)
        clip = vita(output.queries[-1][None, None])
        logits = torch.einsum("qc,tchw->qthw", clip.mask_embed[-1, 0, 0], vita.mask_features(fine))
    close(output.queries[-1][None], expected["frame_queries"])
    close(clip.class_logits[-1], expected["pred_logits"])
    close(clip.mask_embed[-1], expected["pred_mask_embed"])
    close(logits, expected["clip_mask_logits"])


def test_official_calls_give_a2vis_the_same_masks_and_are_timed(peer) -> None:
    torch.manual_seed(0)
    model = build_model(tiny_config()).eval()
    frames = make_sample(0)["frames"][:2]
    ours, _ = model.forward_clip(frames, model.start())
    peer.use_official_calls(model)
    now = iter(range(1000))
    with peer.timed_calls(model, lambda: float(next(now))) as seconds:
        theirs, _ = model.forward_clip(frames, model.start())
    assert set(seconds) == {
        "attention",
        "convolutions",
        "deformable attention",
        "masks of the decoder",
    }
    close(theirs.visible_logits, ours.visible_logits)
    close(theirs.amodal_logits, ours.amodal_logits)
    model.forward_clip(frames, model.start())
    assert next(now) == 2 * sum(seconds.values())


def test_official_calls_refuse_what_the_stock_layer_does_not_know(peer) -> None:
    model = build_model(tiny_config("MODEL.A2VIS.UPDATE.NULL_TOKEN", True)).eval()
    peer.use_official_calls(model)
    with pytest.raises(ValueError, match="UPDATE without NULL_TOKEN"):
        model.forward_clip(make_sample(0)["frames"][:2], model.start())
