"""Diffusion-VAS through the interface of all completers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")

from amodal2.modeling.completion import CompletionSettings, build_completer, complete_video
from amodal2.modeling.diffusion_vas.completer import DiffusionVASCompleter, crop_rule
from amodal2.modeling.diffusion_vas.inference import ClipInputs, ClipModel, seeded
from amodal2.modeling.diffusion_vas.masks import amodal_masks, mask_probability
from amodal2.modeling.diffusion_vas.settings import SamplerSettings
from amodal2.structures.rle import decode_rle
from amodal2.utils.depth import DepthSource
from tests.modeling.completion.clips import ArraySource, decode_tube, hidden_block, make_track
from tests.modeling.diffusion_vas.tiny import build_pipeline

SETTINGS = SamplerSettings(steps=1)


class Rows(DepthSource):
    """Depth that grows downwards; counts how often it is asked."""

    calls = 0

    def __call__(self, frame: np.ndarray, index: int) -> np.ndarray:
        self.calls += 1
        return np.repeat(np.arange(frame.shape[0], dtype=np.float32)[:, None], frame.shape[1], 1)


def video() -> tuple[ArraySource, list[Any], np.ndarray]:
    """Return eight frames of 24 x 32 pixels and the tracks of a block and of the bar over it."""
    _, visible, bar = hidden_block()
    frames = np.random.default_rng(0).integers(0, 255, (8, 24, 32, 3), dtype=np.uint8)
    return ArraySource(frames), [make_track(1, visible), make_track(2, bar)], visible


def test_completer_whole_frame_is_the_pipeline_s_result() -> None:
    pipeline = build_pipeline()
    source, tracks, visible = video()
    model = ClipModel(pipeline, ("mask", "depth"), SETTINGS, window=8, overlap=0)
    depth = Rows()
    completer = DiffusionVASCompleter(
        model, rule=crop_rule("frame", (24, 32)), seeds=(23, 24), depth_model=depth
    )
    found = complete_video(completer, source, tracks, CompletionSettings(compose="raw"))
    assert depth.calls == 8  # both objects share it
    maps = torch.from_numpy(np.stack([Rows()(frame, 0) for frame in source.frames]))
    clip = ClipInputs(torch.from_numpy(visible), depth=maps)
    masks = amodal_masks(mask_probability(model.run(clip, seeded((23, 24)))), clip.visible)
    assert len(found) == 2
    for sample, expected in zip(found, masks, strict=True):
        seen = [bool(mask.any()) for mask in visible]
        first = seen.index(True)
        tube = decode_tube(sample.tracks[0].amodal, (24, 32))
        np.testing.assert_array_equal(tube[first:], expected[first:])


def test_completer_content_vote_and_windows_run_on_crops() -> None:
    source, tracks, visible = video()
    masks = ClipModel(build_pipeline(num_conditions=1), ("mask",), SETTINGS, window=5, overlap=2)
    content = ClipModel(build_pipeline(), ("content", "amodal"), SETTINGS, window=5, overlap=2)
    completer = DiffusionVASCompleter(
        masks, content, rule=crop_rule("object", (8, 12)), seeds=(1, 2, 3), vote=True
    )
    steps: list[tuple[int, int]] = []
    completer.on_step = lambda step, total, latents: steps.append((step, total))
    painted: list[tuple[int, int, np.ndarray]] = []
    (found,) = complete_video(
        completer,
        source,
        tracks[:1],
        on_content=lambda track, t, image: painted.append((track, t, image)),
    )
    tube = found.tracks[0].amodal
    assert [t for _, t, _ in painted] == [t for t, mask in enumerate(tube) if mask]
    for _, t, image in painted:
        np.testing.assert_array_equal(image[..., 3] > 0, decode_rle(tube[t]))
        own = source.frames[t][visible[t]]
        np.testing.assert_array_equal(image[visible[t]][:, :3], own)
    assert steps == [(1, 1)] * 4  # two windows of both stages
    assert found.tracks[0].amodal[5] is not None


def test_completer_one_stage_paints_and_finds_masks() -> None:
    source, tracks, visible = video()
    model = ClipModel(build_pipeline(), ("content", "mask"), SETTINGS, window=8, overlap=0)
    completer = DiffusionVASCompleter(model, rule=crop_rule("frame", (24, 32)))
    painted: dict[int, np.ndarray] = {}
    (found,) = complete_video(
        completer, source, tracks[:1], on_content=lambda track, t, image: painted.update({t: image})
    )
    frames = torch.from_numpy(source.frames).permute(0, 3, 1, 2)
    clip = ClipInputs(torch.from_numpy(visible), frames.float() / 255)
    (content,) = model.run(clip, seeded((23,)))
    expected = (content.amin(1) < 0.9).numpy() | visible
    tube = decode_tube(found.tracks[0].amodal, (24, 32))
    np.testing.assert_array_equal(tube[4], expected[4])
    hidden = expected[4] & ~visible[4]
    colours = (255 * content[4]).round().byte().permute(1, 2, 0).numpy()
    difference = painted[4][hidden][:, :3].astype(int) - colours[hidden]
    assert np.abs(difference).max() <= 1  # rounded after pasting
    with pytest.raises(ValueError, match="expected no second stage"):
        DiffusionVASCompleter(model, ClipModel(build_pipeline(), ("content", "amodal")))


def test_completer_boxes_are_what_objects_are_cut_out_by() -> None:
    source, tracks, _ = video()
    seen: list[torch.Tensor] = []

    class Spy(DiffusionVASCompleter):
        def complete(self, clip: Any) -> Any:
            seen.append(clip.windows)
            return super().complete(clip)

    model = ClipModel(build_pipeline(num_conditions=1), ("mask",), SETTINGS, window=8, overlap=0)
    completer = Spy(model, rule=crop_rule("boxes", (8, 12)))
    boxes = {1: [[8.0, 4.0, 10.0, 8.0]] * 7 + [None]}
    complete_video(completer, source, tracks[:1], boxes=boxes)
    assert seen[0][0].tolist() == [[0, 3, 16, 23]] * 8
    for wrong, message in (
        ({}, "got no boxes"),
        ({1: [None] * 7}, "got 7 of 8"),
        ({1: [[1.0, 1.0, 0.0, 2.0]] * 8}, "with w, h > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            complete_video(completer, source, tracks[:1], boxes=wrong)


def test_completer_bfloat16_is_near_the_full_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    build_pipeline(num_conditions=1).save_pretrained(tmp_path)
    source, tracks, visible = video()
    keys = {"weights": str(tmp_path), "size": (24, 32), "window": 8, "overlap": 0, "steps": 2}
    videos = []
    for dtype in ("float32", "bfloat16"):
        completer = build_completer("diffusion_vas", dtype=dtype, **keys)
        assert isinstance(completer, DiffusionVASCompleter)
        complete_video(completer, source, tracks[:1])
        videos.append(completer.masks.run(ClipInputs(torch.from_numpy(visible)), seeded((23,))))
    assert videos[1].dtype == torch.float32
    assert (videos[0] - videos[1]).abs().mean() < 0.05


def test_completer_regression_needs_no_noise() -> None:
    source, tracks, _ = video()
    model = ClipModel(
        build_pipeline(num_conditions=1), ("mask",), window=8, overlap=0, regression=True
    )
    results = []
    for seed in (1, 2):
        completer = DiffusionVASCompleter(model, rule=crop_rule("frame", (8, 12)), seeds=(seed,))
        (found,) = complete_video(completer, source, tracks)
        results.append(found.tracks[0].amodal)
    assert results[0] == results[1]


def test_build_completer_loads_a_folder(tmp_path: Path) -> None:
    build_pipeline(num_conditions=1).save_pretrained(tmp_path / "model")
    completer = build_completer(
        "diffusion_vas",
        weights=str(tmp_path / "model"),
        size=(8, 12),
        steps=2,
        samples=3,
        guidance=2,
        memory=("halves", "slices"),
    )
    assert isinstance(completer, DiffusionVASCompleter)
    assert completer.masks.conditions == ("mask",)
    assert completer.needs == frozenset()
    assert completer.masks.settings == SamplerSettings(
        steps=2, guidance=(2, 2), batch_guidance=False
    )
    source, tracks, _ = video()
    assert len(complete_video(completer, source, tracks[:1])) == 3
    with pytest.raises(ValueError, match="expected options of diffusion_vas"):
        build_completer("diffusion_vas", weights=str(tmp_path / "model"), step=3)
    with pytest.raises(ValueError, match="got 'int8'"):
        build_completer("diffusion_vas", weights=str(tmp_path / "model"), dtype="int8")
    with pytest.raises(ValueError, match="expected a protocol of"):
        build_completer("diffusion_vas", weights=str(tmp_path / "model"), protocol="tile")


def test_memory_options_leave_the_result() -> None:
    pipeline = build_pipeline()
    inputs = [torch.linspace(-1, 1, 3 * 3 * 8 * 8).reshape(3, 3, 8, 8)] * 2
    expected = pipeline(inputs, seeded((5,)), SamplerSettings(steps=2))
    pipeline.slice_attention(1)
    found = pipeline(
        inputs, seeded((5,)), SamplerSettings(steps=2, batch_guidance=False, encode_chunk=1)
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v[:1], "expected 2 conditions, got 1"),
        (lambda v: [v[0][..., :6], v[1][..., :6]], "divisible by 4"),
        (lambda v: [v[0], v[1][:2]], "expected finite conditions"),
        (lambda v: [v[0], v[1] * float("nan")], "with NaN or infinity"),
    ],
)
def test_pipeline_conditions_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    videos = [torch.zeros(3, 3, 8, 8)] * 2
    with pytest.raises(ValueError, match=message):
        build_pipeline()(change(videos), seeded((1,)))
