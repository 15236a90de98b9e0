"""C2F-Seg as a system: sizes, training, completion of many objects and of clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from amodal2.config import get_cfg
from amodal2.data.datasets import register_amodal_coco_instances
from amodal2.data.mappers import ObjectClipMapper, ObjectPatchMapper, split_objects
from amodal2.engine import AmodalTrainer
from amodal2.modeling.c2f_seg.model import DecodeOptions
from amodal2.structures.rle import decode_rle
from tests.conftest import REPOSITORY
from tests.engine.toy import make_videos
from tests.modeling.c2f_seg import tiny

VIDEO = ("MODEL.C2F_SEG.WINDOW", 2)


def patches(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, tiny.SIDE, tiny.SIDE), generator=generator)
    return images.to(torch.uint8), tiny.discs(count, seed=seed)


def full_size(name, *options):
    cfg = get_cfg()
    cfg.merge_from_file(str(REPOSITORY / "configs" / "c2f_seg" / name))
    cfg.merge_from_list(["MODEL.DEVICE", "meta", *options])
    with torch.device("meta"):
        return build_model(cfg)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [("c2f_seg_kins.yaml", 205, 93_219_329), ("c2f_seg_movid_a.yaml", 221, 83_779_073)],
)
def test_full_model_has_the_official_sizes(name, tensors, parameters):
    model = full_size(name, "MODEL.C2F_SEG.FREEZE_BIAS_AND_LN", True)
    assert (len(model.model.state_dict()), count(model.model)) == (tensors, parameters)
    assert (len(model.refine.state_dict()), count(model.refine)) == (67, 10_146_540)
    assert (len(model.g_model.state_dict()), count(model.g_model)) == (273, 64_578_945)
    assert count(model.backbone) == 25_557_032 - 2049 * 1000  # without the classifier
    frozen = [n for n, p in model.model.named_parameters() if not p.requires_grad]
    assert len(frozen) == 127
    assert ("blocks.0.ln3.bias" in frozen) == ("movid" in name)
    assert not any("ln3.weight" in n for n in frozen)
    assert not any(p.requires_grad for p in model.g_model.parameters())


def test_all_but_the_vq_model_is_trained_by_default():
    model = tiny.build("C2FSeg").train()
    fixed = {n.partition(".")[0] for n, p in model.named_parameters() if not p.requires_grad}
    assert fixed == {"g_model"}
    assert model.model.training
    assert not model.g_model.training


@pytest.mark.parametrize("stride", [8, 16])
def test_backbone_has_its_last_level_at_the_stride_of_the_codes(stride):
    levels = (1, 1, 1, 1) if stride == 8 else (1, 1, 1, 1, 1)
    model = tiny.build("C2FSeg", "MODEL.C2F_SEG.VQ.CHANNEL_MULT", levels).eval()
    images, visible = patches(1)
    side = tiny.SIDE // stride
    assert [level.shape[-1] for level in model.extract(images)] == [16, 8, side, side]
    assert {model.backbone.output_shape()[name].stride for name in ("res4", "res5")} == {stride}
    assert model.g_model.indices(visible).shape == (1, side * side)
    assert model.complete(images, visible).shape == visible.shape


def test_refinement_needs_one_coarse_pixel_per_code():
    model = tiny.build("C2FSeg").eval()
    codes = torch.randint(16, (2, 16), generator=torch.Generator().manual_seed(0))
    whole, few = (model.g_model.coarse_masks(codes, step) for step in (1, 16))
    torch.testing.assert_close(few, whole[..., ::16, ::16], rtol=1e-4, atol=1e-5)
    features = model.extract(patches(2)[0])
    with torch.no_grad():
        found, expected = (model.refine(features, coarse)[1] for coarse in (few, whole))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("INPUT.FORMAT", "BGR"), "expected INPUT.FORMAT 'RGB', got 'BGR'"),
        (("MODEL.BACKBONE.NAME", "build_resnet_backbone"), r"got \(4, 8, 16, 32\)"),
        (("MODEL.C2F_SEG.REFINE", "both"), "MODEL.C2F_SEG.REFINE of .*, got 'both'"),
        (
            ("MODEL.C2F_SEG.VQ.CHANNEL_MULT", (1, 1)),
            r"4 or 5 levels.*got \(1, 1\)",
        ),
        (("INPUT.AMODAL.PATCH_SIZE", 70), "multiples of 16, got 70"),
        (("MODEL.C2F_SEG.PROBABILITY", "mean"), "got 'mean'"),
        (("MODEL.C2F_SEG.STEPS", 0), "at least 1 step"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tiny.build("C2FSeg", *options)


@pytest.mark.parametrize("refine", ["full", "single", "none"])
def test_losses_reach_all_parameters_that_are_trained(refine):
    model = tiny.build("C2FSeg", "MODEL.C2F_SEG.REFINE", refine).train()
    images, amodal = patches(2)
    visible = amodal.clone()
    visible[:, :20] = False
    losses = model.losses(images, visible, visible, amodal)
    expected = {"full": ["amodal", "codes", "visible"], "single": ["amodal", "codes"]}
    assert sorted(losses) == [f"loss_{n}" for n in expected.get(refine, ["codes"])]
    sum(losses.values()).backward()
    without = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert without == set()


def test_loss_falls_on_one_batch():
    model = tiny.build("C2FSeg").train()
    images, amodal = patches(2)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    totals = []
    for step in range(12):
        torch.manual_seed(step % 2)
        total = sum(model.losses(images, amodal, amodal, amodal).values())
        totals.append(total.item())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert sum(totals[-2:]) < 0.9 * sum(totals[:2])


@pytest.mark.parametrize("kind", ["image", "video"])
def test_trains_two_iterations(kind, tmp_path):
    dicts = tiny.images(tmp_path) if kind == "image" else make_videos(tmp_path, 1)
    name = f"c2f_seg_{kind}_{tmp_path.name}"
    DatasetCatalog.register(name, lambda: dicts)
    options = ["DATASETS.TRAIN", (name,), "OUTPUT_DIR", str(tmp_path / "out")]
    if kind == "video":
        options += [*VIDEO, "INPUT.AMODAL.MAPPER", "ObjectClipMapper"]
        options += ["INPUT.AMODAL.CLIP_LEN", 4, "INPUT.AMODAL.NUM_CLIPS", 1]
    trainer = AmodalTrainer(tiny.config("C2FSeg", *options))
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert all(torch.equal(after[n], v) for n, v in before.items() if n.startswith("g_model."))
    assert any(not torch.equal(after[n], v) for n, v in before.items() if n.startswith("model."))


def test_trained_model_is_scored_on_the_objects_of_images(tmp_path):
    dicts = tiny.images(tmp_path)
    content = {
        "images": [
            {"id": d["image_id"], "file_name": Path(d["file_name"]).name}
            | {key: d[key] for key in ("height", "width")}
            for d in dicts
        ],
        "categories": [{"id": 0, "name": "near"}, {"id": 1, "name": "far"}],
        "annotations": [
            {**record, "image_id": d["image_id"]} for d in dicts for record in d["annotations"]
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    name = f"c2f_seg_scored_{tmp_path.name}"
    register_amodal_coco_instances(name, tmp_path / "a.json", tmp_path)
    options = ["DATASETS.TEST", (name,), "TEST.AMODAL.IMAGE_PROTOCOL", "completion"]
    cfg = tiny.config("C2FSeg", *options, "OUTPUT_DIR", str(tmp_path / "out"))
    found = AmodalTrainer.test(cfg, build_model(cfg).eval())
    assert 40 < found["c2f_image"]["full"] <= 100  # at least the visible masks


def test_complete_gives_each_object_what_it_gets_alone():
    model = tiny.build("C2FSeg").eval()
    images, visible = patches(5)
    together = model.complete(images, visible)
    assert together.shape == (5, tiny.SIDE, tiny.SIDE)
    for number in range(5):
        one = slice(number, number + 1)
        alone = model.complete(images[one], visible[one])
        torch.testing.assert_close(alone, together[one], rtol=1e-4, atol=1e-5)
    assert (model.complete(images.float() / 255, visible) == together).all()


def test_complete_draws_from_the_given_generator():
    model = tiny.build("C2FSeg", "MODEL.C2F_SEG.DETERMINISTIC", False).eval()
    images, visible = patches(1)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return model.complete(images, visible, generator=generator)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_complete_sums_refined_and_coarse_masks():
    model = tiny.build("C2FSeg").eval()
    images, visible = patches(1)
    refined = model.complete(images, visible)
    model.options = DecodeOptions(deterministic=True, probability="sum")
    total = model.complete(images, visible)
    model.refine = None
    coarse = model.complete(images, visible)
    torch.testing.assert_close(total, refined + coarse)


def test_video_model_starts_from_an_image_model():
    image = tiny.build("C2FSeg").eval()
    video = tiny.build("C2FSeg", *VIDEO).eval()
    found = video.load_state_dict(image.state_dict())
    assert not found.missing_keys
    assert not found.unexpected_keys
    images, visible = patches(4)
    with torch.no_grad():
        features, codes = image.extract(images), image.g_model.indices(visible)
        one = image.model(features[-1], codes, codes)
        torch.testing.assert_close(video.model(features[-1], codes, codes, 4), one)


def test_complete_of_nothing_is_nothing():
    images, visible = patches(1)
    assert tiny.build("C2FSeg").complete(images[:0], visible[:0]).shape == (0, 64, 64)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_complete_pads_clips_to_whole_windows(frames):
    model = tiny.build("C2FSeg", *VIDEO).eval()
    images, visible = patches(2 * frames)
    found = model.complete(images, visible, frames=frames)
    assert found.shape == (2 * frames, tiny.SIDE, tiny.SIDE)
    alone = model.complete(images[frames:], visible[frames:], frames=frames)
    torch.testing.assert_close(found[frames:], alone, rtol=1e-4, atol=1e-5)
    if frames == 3:
        longer = [torch.cat([x[frames:], x[-1:]]) for x in (images, visible)]
        padded = model.complete(*longer, frames=4)[:3]
        torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, v: (i[..., :32], v, 1), r"got \(2, 3, 64, 32\) and \(2, 64, 64\)"),
        (lambda i, v: (i, v[:1], 1), r"got \(2, 3, 64, 64\) and \(1, 64, 64\)"),
        (lambda i, v: (i, v, 2), "1 for the image model.*got 2 frames per clip in 2"),
    ],
)
def test_complete_names_wrong_input(change, message):
    model = tiny.build("C2FSeg").eval()
    images, visible, frames = change(*patches(2))
    with pytest.raises(ValueError, match=message):
        model.complete(images, visible, frames=frames)


@pytest.mark.parametrize("post_process", [True, False])
def test_image_objects_come_back_at_the_size_of_the_image(post_process, tmp_path):
    model = tiny.build("C2FSeg", "MODEL.C2F_SEG.POST_PROCESS", post_process).eval()
    mapper = ObjectPatchMapper(is_train=False, size=tiny.SIDE)
    samples = [mapper(item) for item in split_objects(tiny.images(tmp_path))]
    outputs = model(samples)
    assert len(outputs) == 4
    found = outputs[0]["instances"]
    assert found.image_size == tiny.SIZE
    assert found.pred_classes.tolist() == [0]
    visible = torch.zeros(tiny.SIZE, dtype=torch.bool)
    visible[10:30, 20:40] = True
    assert torch.equal(found.pred_visible_masks[0], visible)
    inside = samples[0]["crop"]
    region = torch.zeros(tiny.SIZE, dtype=torch.bool)
    region[inside[0] : inside[0] + inside[2], inside[1] : inside[1] + inside[3]] = True
    assert not (found.pred_amodal_masks[0] & ~region).any()
    assert bool((found.pred_amodal_masks[0] | ~visible).all()) or not post_process


def test_clips_come_back_at_the_size_of_the_video(tmp_path):
    model = tiny.build("C2FSeg", *VIDEO).eval()
    (video,) = make_videos(tmp_path, 1)
    sample = ObjectClipMapper(is_train=False, num_frames=3, size=tiny.SIDE)({**video, "object": 1})
    # What the model answers with the visible masks themselves lands where they came from.
    model.complete = lambda images, visible, frames: visible.float()
    (found,) = model([sample])
    assert found["masks"].shape == (3, video["height"], video["width"])
    for mask, rle in zip(found["masks"], video["annotations"][1]["segmentations"], strict=False):
        seen = torch.from_numpy(decode_rle(rle)).bool()
        assert (mask & seen).sum() > 0.8 * (mask | seen).sum()
