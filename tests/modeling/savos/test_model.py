"""SaVos and the U-Net: presets, losses, training, whole videos."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from amodal2.config import get_cfg
from amodal2.data.datasets.video_amodal import load_video_amodal_json
from amodal2.data.mappers import ObjectTrackMapper
from amodal2.data.synthetic.gum_writer import GumSpec, write_gum_split
from amodal2.modeling.savos import PRESETS, SavosNetwork, TrackInput
from amodal2.modeling.savos.losses import both_consistency_losses, consistency_loss
from amodal2.modeling.savos.network import Direction, merge_for_losses, merge_frames
from amodal2.modeling.savos.patches import build_input, official_box

OFFICIAL, PAPER = PRESETS["official"], PRESETS["paper"]


@pytest.fixture(scope="module")
def dicts(tmp_path_factory):
    root = tmp_path_factory.mktemp("gum")
    return load_video_amodal_json(write_gum_split(GumSpec(frames=6), root, "test", 2), root)


def small(*changes):
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", "SaVos", "MODEL.DEVICE", "cpu"),
            *("MODEL.SAVOS.BASE_CHANNELS", 2, "MODEL.AMODAL_UNET.CHANNELS", 2),
            *("MODEL.AMODAL_UNET.PATCH_SIZE", 16, *changes),
        ]
    )
    return build_model(cfg)


def test_warp_official_zero_motion_moves_by_half_a_pixel():
    dot = torch.zeros(1, 1, 5, 6)
    dot[..., 2, 3] = 1
    moved = SavosNetwork(2, OFFICIAL).warp(dot, torch.zeros(1, 2, 5, 6))
    expected = torch.zeros(5, 6)
    expected[2:4, 3:5] = 0.25
    torch.testing.assert_close(moved[0, 0], expected)


def test_warp_presets_agree_for_whole_pixels():
    values, motion = torch.rand(1, 1, 8, 9), torch.tensor([2.0, 1.0]).view(1, 2, 1, 1)
    motion = motion.expand(1, 2, 8, 9)
    official = SavosNetwork(2, replace(OFFICIAL, offset=0.0)).warp(values, motion)
    paper = SavosNetwork(2, PAPER).warp(values, motion)
    torch.testing.assert_close(official[..., 1:, 2:], paper[..., 1:, 2:])


@pytest.mark.parametrize(("options", "mean"), [(OFFICIAL, float("nan")), (PAPER, 0.0)])
def test_base_motion_without_visible_pixels(options, mean):
    flow = torch.ones(1, 1, 2, 3, 3)
    base = SavosNetwork(2, options).base_motion(flow, torch.zeros(1, 1, 3, 3))
    torch.testing.assert_close(base, torch.full_like(flow, mean), equal_nan=True)


def test_base_motion_is_observed_or_mean():
    flow = torch.arange(4.0).view(1, 1, 1, 2, 2).repeat(1, 1, 2, 1, 1)
    visible = torch.tensor([[[[1.0, 1], [0, 0]]]])
    assert SavosNetwork(2, PAPER).base_motion(flow, visible)[0, 0, 0].tolist() == [[0.5] * 2] * 2
    observed = SavosNetwork(2, OFFICIAL).base_motion(flow, visible)[0, 0, 0]
    assert observed.tolist() == [[0, 1], [0.5, 0.5]]


def moving_square(length=6):
    """Return the masks [1, T, H, W] of a square that moves by one column, and its motion."""
    masks = torch.zeros(1, length, 8, 14)
    for t in range(length):
        masks[0, t, 2:6, t + 1 : t + 5] = 1
    motion = torch.zeros(1, length, 2, 8, 14)
    motion[:, :, 0] = 1
    return masks, motion


def perfect(masks, motion):
    """Return both directions of a network that knows the square."""
    following = torch.cat([masks[:, 1:], masks[:, -1:]], dim=1)
    before = torch.cat([masks[:, :1], masks[:, :-1]], dim=1)
    zeros = torch.zeros_like(masks)
    forward = Direction(masks, torch.stack([following, zeros], 2), motion)
    reverse = Direction(masks, torch.stack([before, zeros], 2), -motion).reversed()
    return forward, reverse


def test_merge_of_a_perfect_network_is_the_next_frame():
    masks, motion = moving_square()
    directions = perfect(masks, motion)
    torch.testing.assert_close(merge_for_losses(*directions)[:, :-2], masks[:, 1:-1])
    torch.testing.assert_close(merge_frames(*directions), masks)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_merge_frames_short_tracks(length):
    masks, motion = moving_square(length)
    torch.testing.assert_close(merge_frames(*perfect(masks, motion)), masks)


def test_consistency_of_a_perfect_network_is_zero():
    masks, motion = moving_square()
    forward, reverse = perfect(masks, motion)
    merged, counts = merge_for_losses(forward, reverse), torch.ones(1, 6)
    loss = both_consistency_losses(SavosNetwork(2, PAPER), merged, forward, reverse, counts)
    assert float(loss) < 1e-5
    wrong = replace(forward, motion=motion * 0)
    loss = both_consistency_losses(SavosNetwork(2, PAPER), merged, wrong, reverse, counts)
    assert float(loss) > 0.5


@pytest.mark.parametrize(("offset", "zero"), [(0.0, True), (-0.5, False)])
def test_consistency_of_still_masks_is_zero_without_offset(offset, zero):
    masks = moving_square()[0][:, :1].repeat(1, 4, 1, 1)
    network = SavosNetwork(2, replace(OFFICIAL, offset=offset))
    loss = consistency_loss(network, masks, torch.zeros(1, 4, 2, 8, 14), torch.ones(1, 4))
    assert (float(loss) < 1e-5) == zero


def test_official_box_follows_the_integer_rule():
    assert official_box(np.array([10.0, 20, 21, 41]), (50, 44)) == [8, 15, 22, 44]


def test_build_input_official_scale_is_that_of_the_largest_mask():
    visible = torch.zeros(1, 2, 40, 60)
    visible[0, 0, 10:20, 10:30] = 1
    visible[0, 1, 10:15, 10:20] = 1
    flow = torch.zeros(1, 2, 2, 40, 60)
    tracks = build_input(torch.ones(1, 2, 3, 40, 60), visible, flow, flow, None)
    boxes = tracks.windows[0]
    assert boxes.tolist() == [[8, 5, 20, 33], [9, 8, 15, 20]]
    filled = tracks.patches[0, :, 0].sum(dim=(1, 2)) / (64 * 128)
    torch.testing.assert_close(filled, torch.tensor([1.0, 7 * 13 / (13 * 29)]), atol=0.02, rtol=0)


def sample_of(dicts, seed=0, **options):
    return ObjectTrackMapper(is_train=True, num_frames=5, **options)(dicts[0], seed)


def test_object_track_mapper_cuts_the_same_region_out_of_everything(dicts):
    sample = sample_of(dicts, margin=2, enlarge=1.0)
    top, left, bottom, right = sample["region"]
    for name in ("visible", "others", "amodal", "frames", "forward_flow"):
        assert sample[name].shape[-2:] == (bottom - top, right - left)
    assert not (sample["visible"] & sample["others"]).any()
    assert (sample["visible"] <= sample["amodal"]).all()
    again = sample_of(dicts, margin=2, enlarge=1.0)
    assert all(torch.equal(sample[k], again[k]) for k in ("frames", "backward_flow"))
    own = sample["frames"].permute(0, 2, 3, 1)[sample["visible"]]
    assert (own == own[0]).all()  # one flat colour


def test_object_track_mapper_without_stored_flow_estimates_it(dicts):
    plain = {key: value for key, value in dicts[0].items() if key != "flow_file"}
    sample = ObjectTrackMapper(is_train=True, num_frames=3, flow="dis")(plain, 1)
    assert torch.isfinite(sample["forward_flow"]).all()


def test_object_track_mapper_without_objects_raises(dicts):
    with pytest.raises(ValueError, match="expected an object with visible pixels, got none"):
        ObjectTrackMapper(is_train=True)({**dicts[0], "annotations": []}, 0)


def test_object_track_mapper_a_crowd_hides_but_is_not_learnt_from(dicts):
    first, second = dicts[0]["annotations"]
    crowd = {**dicts[0], "annotations": [{**first, "iscrowd": 1}, second]}
    for seed in range(4):
        sample = ObjectTrackMapper(is_train=True, num_frames=5)(crowd, seed)
        assert sample["annotation_id"] == second["id"]
        assert sample["others"].any()


_KINDS = {
    "paper": (),
    "motion": ("MODEL.SAVOS.FOLLOW", "motion"),
    "official": ("MODEL.SAVOS.PRESET", "official", "MODEL.SAVOS.PHOTOMETRIC_WEIGHT", 0.1),
    "oracle": ("MODEL.SAVOS.LABELS", "amodal"),
    "unet": ("MODEL.META_ARCHITECTURE", "AmodalUNet"),
}


@pytest.mark.parametrize("kind", _KINDS)
def test_model_learns_one_batch(dicts, kind):
    model = small(*_KINDS[kind]).train()
    samples = [sample_of(dicts), ObjectTrackMapper(is_train=True, num_frames=3)(dicts[1], 5)]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    totals = []
    for _ in range(8):
        losses = model(samples)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert np.isfinite(totals).all()
    assert totals[-1] < 0.9 * totals[0]
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []


@pytest.mark.parametrize("kind", _KINDS)
def test_model_completes_a_video(dicts, kind):
    model = small(*_KINDS[kind]).eval()
    sample = ObjectTrackMapper(is_train=False)(dicts[1])
    found = model([sample])[0]["prediction"]
    assert (found.video_id, found.length) == (dicts[1]["video_id"], 6)
    assert [t.id for t in found.tracks] == [t["id"] for t in dicts[1]["annotations"]]
    for track, truth in zip(found.tracks, dicts[1]["annotations"], strict=True):
        assert track.visible == truth["segmentations"]
        assert all(mask is not None for mask in track.amodal)


def test_model_losses_ignore_frames_that_fill_up(dicts):
    model = small().train()
    short = ObjectTrackMapper(is_train=True, num_frames=4)(dicts[0], 2)
    long = sample_of(dicts, 3)
    alone, rest, both = (model(s)["loss_mask"].item() for s in ([short], [long], [short, long]))
    # Inner frames: 2 of 4, 3 of 5; the fourth frame of the short one becomes an inner one.
    assert min(alone, rest) * 0.8 < both < max(alone, rest) * 1.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("MODEL.SAVOS.PRESET", "other"), r"PRESET of \['official', 'paper'\], got 'other'"),
        (("MODEL.SAVOS.LABELS", "other"), "expected LABELS visible or amodal, got 'other'"),
        (("MODEL.SAVOS.FOLLOW", "other"), "expected follow of"),
        (
            ("MODEL.META_ARCHITECTURE", "AmodalUNet", "MODEL.AMODAL_UNET.PATCH_SIZE", 20),
            "expected a multiple of 16 pixels, got 20",
        ),
    ],
)
def test_model_wrong_keys_raise(changes, message):
    with pytest.raises(ValueError, match=message):
        small(*changes)


@pytest.mark.parametrize("kind", ["oracle", "unet"])
def test_model_without_amodal_masks_raises(dicts, kind):
    sample = sample_of(dicts)
    del sample["amodal"]
    with pytest.raises(ValueError, match="expected amodal masks to learn from"):
        small(*_KINDS[kind]).train()([sample])


def test_savos_one_track_input_is_reversed_twice_to_itself():
    tracks = TrackInput(
        *(torch.rand(1, 3, *s) for s in ((8, 2, 2), (4,), (3, 3), (2, 3, 3), (2, 3, 3)))
    )
    twice = tracks.reversed().reversed()
    assert all(torch.equal(getattr(twice, key), value) for key, value in vars(tracks).items())
