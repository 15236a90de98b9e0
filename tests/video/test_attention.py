"""Pictures of the attention: one per track and frame, bright where the weights are."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from amodal2.structures.attention_maps import AttentionMaps
from amodal2.utils.frames import read_image
from amodal2.video.reader import find_inputs
from amodal2.video.run import process_video
from amodal2.video.streaming import PredictorSettings
from amodal2.visualization.attention import draw_heat, draw_priors
from tests.utils.sample_videos import make_video
from tests.video.colour_model import CATEGORY_NAMES, ColourModel
from tests.video.test_run import Counter


class ExplainingColours(ColourModel):
    """Looks at the upper left quarter of every frame, for each slot that is asked for."""

    asked: list[int] | None = None
    maps: list[AttentionMaps] | None = None

    @contextmanager
    def record_attention(self, slots):
        self.asked, self.maps = list(slots), []
        yield self.maps
        self.maps = None

    def forward_clip(self, frames, state):
        output, state = super().forward_clip(frames, state)
        if self.maps is not None:
            _, count, height, width = output.shape
            weights = torch.zeros(len(self.asked), count, height, width)
            weights[..., : height // 2, : width // 2] = 1.0
            prior = weights[:, 0] > 0
            self.maps.append(AttentionMaps(prior, ~prior, weights))
        return output, state


def process(model, video, out):
    (found,), _ = find_inputs([str(video)])
    settings = PredictorSettings(category_ids=list(CATEGORY_NAMES))
    return process_video(
        found, model, settings, out, CATEGORY_NAMES, save={"attention"}, progress=Counter()
    )


def test_attention_one_picture_per_track_and_frame(tmp_path):
    make_video(tmp_path / "a.mp4", 7)
    model = ExplainingColours()
    count = process(model, tmp_path / "a.mp4", tmp_path / "out")
    assert count == len(model.asked) == 2
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert found == [
        f"out/attention/id_{track:03d}/{frame:06d}.png" for track in (1, 2) for frame in range(7)
    ]
    picture = read_image(tmp_path / found[-1]).astype(int)
    height, width = picture.shape[0], (picture.shape[1] - 8) // 3
    heat = picture[:, -width:]
    assert heat[2 : height // 4, 2 : width // 4].mean() > 100 + heat[:, -width // 4 :].mean()
    priors = picture[:, width + 4 : 2 * width + 4]
    blue, orange = priors[2, 2], priors[2, -3]
    assert blue[2] > blue[0]
    assert orange[0] > orange[2]


def test_attention_of_a_model_without_the_head_raises_before_the_work(tmp_path):
    make_video(tmp_path / "a.mp4", 4)
    with pytest.raises(ValueError, match="expected a model with an amodal attention head, got Col"):
        process(ColourModel(), tmp_path / "a.mp4", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_draw_functions_leave_the_frame_alone():
    frame = np.full((4, 6, 3), 100, np.uint8)
    left = np.zeros((4, 6), bool)
    left[:, :2] = True
    priors = draw_priors(frame, left, np.ones((4, 6), bool))
    assert len(np.unique(priors.reshape(-1, 3), axis=0)) == 2
    heat = draw_heat(frame, np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6))
    assert heat[3, 5].sum() > heat[0, 0].sum()
    assert (frame == 100).all()
