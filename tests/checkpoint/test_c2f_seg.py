"""Official files of C2F-Seg, written from the published tables of names and shapes."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from torchvision.models import resnet50

import amodal2.modeling  # noqa: F401 registers the systems
from amodal2.checkpoint import AmodalCheckpointer, read_weights, translate_official
from amodal2.config import get_cfg
from amodal2.utils.errors import CheckpointError
from tests.checkpoint.official_files import Shapes, pair, tensors
from tests.conftest import REPOSITORY


def vq_shapes(codes: int = 256, channels: int = 256) -> Shapes:
    widths = (128, 128, 256, 256, 512)
    shapes: Shapes = pair("encoder.conv_in", 128, 1, 3, 3) | pair("decoder.conv_in", 512, 256, 3, 3)
    before = 128
    for i, width in enumerate(widths):
        for b in range(2):
            shapes |= block(f"encoder.down.{i}.block.{b}", before, width)
            before = width
        if i < 4:
            shapes |= pair(f"encoder.down.{i}.downsample.conv", width, width, 3, 3)
    for i, width in reversed(list(enumerate(widths))):
        for b in range(3):
            shapes |= block(f"decoder.up.{i}.block.{b}", before, width)
            before = width
        if i:
            shapes |= pair(f"decoder.up.{i}.upsample.conv", width, width, 3, 3)
    for part in ("encoder", "decoder"):
        for number in (1, 2):
            shapes |= block(f"{part}.mid.block_{number}", 512, 512)
    shapes |= pair("encoder.norm_out", 512) | pair("encoder.conv_out", 256, 512, 3, 3)
    shapes |= pair("decoder.norm_out", 128) | pair("decoder.conv_out", 1, 128, 3, 3)
    shapes |= {"quantize.embedding.weight": (codes, channels)}
    shapes |= pair("quant_conv", channels, 256, 1, 1)
    return shapes | pair("post_quant_conv", 256, channels, 1, 1)


def block(name: str, before: int, width: int) -> Shapes:
    shapes = pair(f"{name}.norm1", before) | pair(f"{name}.conv1", width, before, 3, 3)
    shapes |= pair(f"{name}.norm2", width) | pair(f"{name}.conv2", width, width, 3, 3)
    return shapes | (pair(f"{name}.nin_shortcut", width, before, 1, 1) if before != width else {})


def transformer_shapes(video: bool) -> Shapes:
    shapes: Shapes = {"m_bias": (257,), "pos_emb.weight": (256, 768), "m_dec.weight": (257, 768)}
    shapes |= {"c_emb.weight": (257, 192), "z_emb.weight": (257, 192)}
    shapes |= pair("conv_in", 384, 2048, 3, 3) | pair("dec.ln1", 768) | pair("dec.ln2", 768)
    shapes |= pair("dec.dense", 768, 768)
    attentions, norms = (("attn1", "attn2"), 3) if video else (("attn",), 2)
    for i in range(8 if video else 12):
        for number in range(norms):
            shapes |= pair(f"blocks.{i}.ln{number + 1}", 768)
        for attention in attentions:
            for layer in ("key", "query", "value", "proj"):
                shapes |= pair(f"blocks.{i}.{attention}.{layer}", 768, 768)
        shapes |= pair(f"blocks.{i}.mlp.0", 3072, 768) | pair(f"blocks.{i}.mlp.2", 768, 3072)
    return shapes


def refine_shapes() -> Shapes:
    shapes = pair("conv_adapter", 2048, 2048, 1, 1) | pair("conv_in", 256, 2048, 3, 3)
    shapes |= pair("lay1", 258, 258, 3, 3) | norm("bn1", 258) | pair("lay2", 128, 258, 3, 3)
    shapes |= norm("bn2", 128) | pair("lay3", 64, 128, 3, 3) | norm("bn3", 64)
    shapes |= pair("adapter1", 128, 1024, 1, 1)
    for s in ("vm", "am"):
        shapes |= pair(f"lay4_{s}", 32, 64, 3, 3) | norm(f"bn4_{s}", 32)
        shapes |= pair(f"lay5_{s}", 16, 32, 3, 3) | norm(f"bn5_{s}", 16)
        shapes |= pair(f"adapter2_{s}", 64, 512, 1, 1) | pair(f"adapter3_{s}", 32, 256, 1, 1)
        shapes |= pair(f"out_lay_{s}", 1, 16, 3, 3)
    return shapes


def norm(name: str, width: int) -> Shapes:
    statistics = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return pair(name, width) | statistics | {f"{name}.num_batches_tracked": ()}


def write_vq(path, codes=256, channels=256):
    critic = pair("discriminator.main.0", 64, 1, 4, 4) | {"perceptual_loss.lin0.model.1.weight": ()}
    weights = {"g_model": tensors(vq_shapes(codes, channels)), "d_model": tensors(critic)}
    torch.save({**weights, "optimizer_states": [{}, {}]}, path)
    return str(path)


def write_c2f(path, video=False, trained=False):
    with torch.device("meta"):
        encoder = {f"encoder.model.{n}": v.shape for n, v in resnet50().state_dict().items()}
    model = tensors(transformer_shapes(video))
    for name in model:
        if name.endswith((".ln1.weight", ".ln2.weight")) and not trained:
            model[name] = torch.ones(()).expand(768)
    parts = {"model": model, "img_encoder": tensors(encoder), "refine": tensors(refine_shapes())}
    torch.save({"iteration": 5, "sample_iter": 5, **parts, "opt": {"state": {}}}, path)
    return str(path)


def build(name, *options):
    cfg = get_cfg()
    cfg.merge_from_file(str(REPOSITORY / "configs" / "c2f_seg" / name))
    cfg.merge_from_list(["MODEL.DEVICE", "meta", *options])
    with torch.device("meta"):
        return build_model(cfg)


@pytest.fixture
def quiet(recwarn):
    """Take torch's warnings that nothing is copied to the meta device."""
    yield
    assert all("copying from a non-meta" in str(w.message) for w in recwarn)


def test_official_tables_have_the_published_sizes():
    assert len(vq_shapes()) == 273
    assert len(transformer_shapes(False)) == 205
    assert len(transformer_shapes(True)) == 221
    assert len(refine_shapes()) == 67


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("video", [False, True], ids=["images", "video"])
def test_both_official_files_fill_the_whole_model(video, tmp_path):
    stage_2 = write_c2f(tmp_path / "a.bin", video)  # the names of the files say nothing
    stage_1 = write_vq(tmp_path / "b.bin")
    checkpointer = AmodalCheckpointer(build(f"c2f_seg_{'movid_a' if video else 'kins'}.yaml"))
    checkpointer.load(f"{stage_2},{stage_1}", checkpointables=[])
    report = checkpointer.last_report
    report.require_exact("both")
    kind = "video, 8 layers" if video else "images, 12 layers"
    assert report.recognised == (
        f"C2F-Seg for {kind}, vocabulary of 256 codes, biases and LayerNorms as the official "
        "training leaves them; VQ model of masks, 256 codes of 256 channels"
    )
    first = "img_encoder.encoder.model.layer1.0.downsample.1.weight"
    assert report.renamed[first] == "backbone.res2.0.shortcut.norm.weight"
    assert report.dropped["img_encoder.encoder.model.fc.weight"] == "belongs to the classifier"
    assert "training of the VQ model" in report.dropped["d_model.discriminator.main.0.weight"]


@pytest.mark.usefixtures("quiet")
def test_official_vq_file_fills_the_system_of_stage_1(tmp_path):
    checkpointer = AmodalCheckpointer(build("vq_kins.yaml"))
    checkpointer.load(write_vq(tmp_path / "vq.pth"), checkpointables=[])
    report = checkpointer.last_report
    assert {name.split(".")[0] for name in report.missing} == {"d_model"}
    assert list(report.dropped) == ["d_model.perceptual_loss.lin0.model.1.weight"]


def test_weights_trained_without_the_official_mistake_are_told_apart(tmp_path):
    contents = read_weights(write_c2f(tmp_path / "c2f.pth", trained=True))
    assert contents["iteration"] == 5
    found = translate_official(contents["model"])
    assert found.recognised.endswith("biases and LayerNorms trained")


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (
            lambda path: write_vq(path, 32, 32),
            (),
            r"codebook of 256 codes of 256 channels \(MODEL.C2F_SEG.VQ.CODES, "
            r"MODEL.C2F_SEG.VQ.CODE_DIM\), got 32 of 32",
        ),
        (
            write_c2f,
            ("MODEL.C2F_SEG.VQ.CODES", 32),
            r"vocabulary of 32 codes \(MODEL.C2F_SEG.VQ.CODES\), got 256",
        ),
    ],
)
def test_codebook_and_vocabulary_that_do_not_fit_are_named(write, options, message, tmp_path):
    checkpointer = AmodalCheckpointer(build("c2f_seg_kins.yaml", *options))
    with pytest.raises(CheckpointError, match=message):
        checkpointer.load(write(tmp_path / "other.pth"))
