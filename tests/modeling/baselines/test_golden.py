"""VITA and GenVIS as a whole, fed with stored backbone features, against the official code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amodal2.modeling.baselines import VITA, GenVIS
from amodal2.modeling.mask_classification.clip_criterion import ClipCriterion
from amodal2.modeling.mask_classification.clip_memory import RecurrentAssociation
from amodal2.modeling.mask_classification.criterion import PointLoss, SetCriterion
from amodal2.structures.rle import decode_rle
from tests.conftest import golden_files
from tests.modeling.mask_classification.test_golden import (
    _ffn_width,
    build_head,
    build_vita,
    close,
)
from tests.modeling.tiny import ArrayFrames


class StoredFeatures(nn.Module):
    """A backbone that knows the features of a video and gives those of the frames in turn."""

    def __init__(self, features: dict[str, Tensor]) -> None:
        super().__init__()
        self.features, self.position = features, 0

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of the next frames."""
        frames = slice(self.position, self.position + len(images))
        self.position = frames.stop
        return {name: x[frames] for name, x in self.features.items()}


def build(golden: dict[str, Any], online: bool, clip_len: int) -> VITA | GenVIS:
    """Build the model of a golden file."""
    config, features = golden["config"], golden["inputs"]["features"]
    losses = {
        "num_classes": config["num_classes"],
        "no_object_weight": 0.1,
        "class_weight": 2.0,
        "mask_weight": 5.0,
        "dice_weight": 5.0,
        "points": PointLoss(16, 3.0, 0.75),
    }
    head = config | {"dim_feedforward": _ffn_width(golden["state_dict"])}
    shared = {
        "backbone": StoredFeatures(features),
        "sem_seg_head": build_head(
            head, features, queries=config["num_frame_queries"], mask_dim=config["mask_dim"]
        ),
        "criterion": SetCriterion(**losses),
        "last_layers": config["vita_last_layer_num"],
        "pixel_mean": [0.0] * 3,
        "pixel_std": [1.0] * 3,
        "clip_len": clip_len,
        "top_k": config["topk"],
    }
    criterion = ClipCriterion(similarity_weight=0.5, **losses)
    if online:
        association = build_vita(config, 0, RecurrentAssociation)
        model = GenVIS(vita_module=association, genvis_criterion=criterion, **shared)
    else:
        association = build_vita(config, config["vita_enc_window_size"])
        model = VITA(vita_module=association, vita_criterion=criterion, **shared)
    state = dict(golden["state_dict"])
    if online:
        extra = golden["genvis_extra_state_dict"]
        state |= {f"vita_module.{key}": value for key, value in extra.items()}
    found = model.load_state_dict(state, strict=False)
    assert found.unexpected_keys == []
    assert all("empty_weight" in key for key in found.missing_keys)
    return model.eval()


@pytest.mark.parametrize("clip_len", [1, 3])
@pytest.mark.parametrize("path", golden_files("vita_*.pt"))
def test_vita_golden_video_gives_the_official_tracks(path: Path, clip_len: int) -> None:
    golden = torch.load(path, weights_only=True)
    config, expected = golden["config"], golden["outputs"]["inference"]
    frames = ArrayFrames(torch.zeros(config["T"], 3, *config["image_hw"]))
    height, width = config["out_hw"]
    video = {"frames": frames, "video_id": 0, "height": height, "width": width}
    (output,) = build(golden, False, clip_len)([video])
    tracks = output["prediction"].tracks
    close(torch.tensor([t.score for t in tracks]), expected["pred_scores"].float())
    assert [t.category_id for t in tracks] == expected["pred_labels"].tolist()
    for track, masks in zip(tracks, expected["pred_masks"], strict=True):
        for rle, mask in zip(track.visible, masks, strict=True):
            ours = torch.zeros_like(mask) if rle is None else torch.from_numpy(decode_rle(rle))
            assert (ours.bool() != mask).float().mean() <= 1e-3


@pytest.mark.parametrize("path", golden_files("vita_*.pt"))
def test_genvis_golden_video_gives_the_official_masks_and_scores(path: Path) -> None:
    golden = torch.load(path, weights_only=True)
    config, outputs = golden["config"], golden["outputs"]
    length = config["genvis_len_clip"]
    model = build(golden, True, length)
    state, best = model.start(), torch.zeros(())
    clips = torch.zeros(config["T"], 3, *config["image_hw"]).split(length)
    features = outputs["vita_mask_features"].split(length)
    for frames, pixels, expected in zip(clips, features, outputs["genvis_clips"], strict=True):
        clip, state = model.forward_clip(frames, state)
        masks = torch.einsum("nc,tchw->nthw", expected["pred_mask_embed"][0, 0], pixels)
        close(clip.visible_logits, masks)
        best = torch.maximum(best, expected["pred_logits"][0, 0].softmax(-1)[:, :-1])
        close(model.class_scores(state), best)
