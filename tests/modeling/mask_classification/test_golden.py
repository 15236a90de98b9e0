"""Pixel decoder, mask decoder and VITA head against the official implementations."""

from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor

from amodal2.modeling.mask_classification.clip_memory import ClipMemory, RecurrentAssociation
from amodal2.modeling.mask_classification.head import MaskFormerHead
from amodal2.modeling.mask_classification.object_association import ObjectAssociation
from amodal2.modeling.mask_classification.pixel_decoder import MSDeformAttnPixelDecoder
from amodal2.modeling.mask_classification.transformer_decoder import (
    MultiScaleMaskedTransformerDecoder,
)
from amodal2.structures.clip import ClipOutput
from amodal2.structures.rle import decode_rle
from amodal2.structures.tube_spool import TubeSpool
from tests.conftest import golden_files


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def build_head(
    config: dict, features: dict[str, Tensor], *, queries: int, mask_dim: int
) -> MaskFormerHead:
    strides = dict(zip(("res2", "res3", "res4", "res5"), (4, 8, 16, 32), strict=True))
    shapes = {
        name: ShapeSpec(channels=x.shape[1], stride=strides[name]) for name, x in features.items()
    }
    pixel_decoder = MSDeformAttnPixelDecoder(
        shapes,
        conv_dim=config["conv_dim"],
        mask_dim=mask_dim,
        norm=config.get("norm", "GN"),
        num_heads=config["nheads"],
        enc_layers=config["enc_layers"],
        enc_hidden_dim=config.get("enc_dim_feedforward", 1024),
        enc_points=config.get("enc_points", 4),
    )
    predictor = MultiScaleMaskedTransformerDecoder(
        in_channels=config["conv_dim"],
        num_classes=config["num_classes"],
        hidden_dim=config["hidden_dim"],
        num_queries=queries,
        num_heads=config["nheads"],
        hidden_ffn=config["dim_feedforward"],
        num_layers=config["dec_layers"],
        mask_dim=mask_dim,
        enforce_input_project=config.get("enforce_input_project", False),
    )
    return MaskFormerHead(pixel_decoder, predictor)


@pytest.mark.parametrize("path", golden_files("mask2former_*.pt"))
def test_mask_former_head_golden_matches_the_official_code(path: Path) -> None:
    golden = torch.load(path, weights_only=True)
    config, features = golden["config"], golden["inputs"]["features"]
    head = build_head(config, features, queries=config["num_queries"], mask_dim=config["mask_dim"])
    state = {k.removeprefix("sem_seg_head."): v for k, v in golden["state_dict"].items()}
    head.load_state_dict(state, strict=True)
    expected = golden["outputs"]
    with torch.no_grad():
        mask_features, _, levels = head.pixel_decoder(features)
        head.predictor.train()  # dropout is 0: training only keeps all predictions
        output = head.predictor(levels, mask_features)
        head.eval()
        final, _ = head(features)
    close(mask_features, expected["mask_features"])
    for ours, theirs in zip(levels, expected["multi_scale_features"], strict=True):
        close(ours, theirs)
    everything = [*expected["aux_outputs"], expected]
    for ours, theirs in zip(output.predictions, everything, strict=True):
        close(ours.class_logits, theirs["pred_logits"])
        close(ours.mask_logits, theirs["pred_masks"])
    assert len(final.predictions) == 1
    close(final.predictions[0].mask_logits, expected["pred_masks"])


def build_vita(
    config: dict, window: int, kind: type[ObjectAssociation] = ObjectAssociation
) -> ObjectAssociation:
    return kind(
        in_dim=config["hidden_dim"],
        mask_feature_dim=config["conv_dim"],
        hidden_dim=config["hidden_dim"],
        num_classes=config["num_classes"],
        num_frame_queries=config["num_frame_queries"],
        num_queries=config["vita_num_queries"],
        num_heads=config["vita_nheads"],
        hidden_ffn=config["vita_dim_feedforward"],
        enc_layers=config["vita_enc_layers"],
        dec_layers=config["vita_dec_layers"],
        window_size=window,
    ).eval()


@pytest.mark.parametrize("path", golden_files("vita_*.pt"))
def test_vita_golden_matches_the_official_code(path: Path) -> None:
    golden = torch.load(path, weights_only=True)
    config, expected = golden["config"], golden["outputs"]
    features = golden["inputs"]["features"]
    head = build_head(
        config | {"dim_feedforward": _ffn_width(golden["state_dict"])},
        features,
        queries=config["num_frame_queries"],
        mask_dim=config["mask_dim"],
    ).eval()
    parts = {"sem_seg_head.": {}, "vita_module.": {}}
    for key, value in golden["state_dict"].items():
        prefix = next(p for p in parts if key.startswith(p))
        parts[prefix][key.removeprefix(prefix)] = value
    head.load_state_dict(parts["sem_seg_head."], strict=True)
    vita = build_vita(config, config["vita_enc_window_size"])
    vita.load_state_dict(parts["vita_module."], strict=True)
    no_window = build_vita(config, 0)
    no_window.load_state_dict(parts["vita_module."], strict=True)
    with torch.no_grad():
        output, fine = head(features)
        queries = output.queries[-1][None]
        clip = vita(queries[:, None])
        plain = no_window(queries[:, None])
        clip_features = vita.mask_features(fine)
    close(queries, expected["frame_queries"])
    close(fine, expected["clip_mask_features"])
    close(clip_features, expected["vita_mask_features"])
    close(output.predictions[-1].class_logits, expected["frame_pred_logits"])
    close(clip.class_logits[-1], expected["pred_logits"])
    close(clip.mask_embed[-1], expected["pred_mask_embed"])
    close(clip.frame_sim, expected["pred_fq_embed"])
    close(clip.clip_sim[-1], expected["pred_cq_embed"])
    close(plain.class_logits[-1], expected["window0"]["pred_logits"])
    close(plain.mask_embed[-1], expected["window0"]["pred_mask_embed"])
    logits = torch.einsum("qc,tchw->qthw", clip.mask_embed[-1, 0, 0], clip_features)
    close(logits, expected["clip_mask_logits"])
    _check_inference(config, expected["inference"], clip.class_logits[-1, 0, 0], logits)
    _check_training(vita, golden)


def _check_inference(config: dict, expected: dict, classes: Tensor, logits: Tensor) -> None:
    """VITA's rule for scores and masks is the one by which tracks are kept."""
    height, width = config["image_hw"]
    padded = tuple(-(-n // 32) * 32 for n in (height, width))
    spool = TubeSpool(logits.shape[0], tuple(config["out_hw"]))
    spool.add(ClipOutput(logits, None, padded, (height, width)))
    scores = classes.softmax(-1)[:, :-1]
    prediction = spool.finish(scores, config["topk"])
    tracks = sorted(prediction.tracks, key=lambda t: -t.score)
    ours = torch.tensor([t.score for t in tracks])
    close(ours, expected["pred_scores"].float())
    assert [t.category_id for t in tracks] == expected["pred_labels"].tolist()
    for track, masks in zip(tracks, expected["pred_masks"], strict=True):
        decoded = torch.stack(
            [
                torch.zeros(tuple(config["out_hw"]), dtype=torch.bool)
                if rle is None
                else torch.from_numpy(decode_rle(rle)).bool()
                for rle in track.visible
            ]
        )
        assert (decoded != masks).float().mean() <= 1e-3


def _check_training(vita: ObjectAssociation, golden: dict) -> None:
    """Training mode: plain windows, all decoder layers."""
    config, expected = golden["config"], golden["outputs"]["train_mode"]
    queries = golden["inputs"]["train_frame_queries"].unflatten(1, (-1, config["num_frames"]))
    with torch.no_grad():
        clip = vita.train()(queries)
    steps = [*expected["aux_outputs"], expected]
    for i, theirs in enumerate(steps):
        close(clip.class_logits[i], theirs["pred_logits"])
        close(clip.mask_embed[i], theirs["pred_mask_embed"])
        close(clip.clip_sim[i], theirs["pred_cq_embed"])
    close(clip.frame_sim, expected["pred_fq_embed"])


@pytest.mark.parametrize("path", golden_files("vita_*.pt"))
def test_genvis_golden_clips_match_the_official_code(path: Path) -> None:
    golden = torch.load(path, weights_only=True)
    config = golden["config"]
    model = build_vita(config, 0, RecurrentAssociation)
    state = {
        key.removeprefix("vita_module."): value
        for key, value in golden["state_dict"].items()
        if key.startswith("vita_module.")
    }
    model.load_state_dict(state | golden["genvis_extra_state_dict"], strict=True)
    memory: ClipMemory | None = None
    clips = golden["outputs"]["frame_queries"].split(config["genvis_len_clip"], dim=1)
    for queries, expected in zip(clips, golden["outputs"]["genvis_clips"], strict=True):
        with torch.no_grad():
            clip, memory = model.next_clip(queries[:, None], memory)
        close(clip.class_logits[-1], expected["pred_logits"])
        close(clip.mask_embed[-1], expected["pred_mask_embed"])
        close(memory.state.transpose(0, 1), expected["output_q"])
        close(memory.keys[-1], expected["memory_k"][0, 0])
        close(memory.values[-1], expected["memory_v"][0, 0])


def _ffn_width(state: dict[str, Tensor]) -> int:
    return state["sem_seg_head.predictor.transformer_ffn_layers.0.linear1.weight"].shape[0]
