"""Official weight files: recognised, renamed, fitted to A2VIS with R-50 and Swin-L."""

import functools
import re

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

import amodal2.modeling  # noqa: F401 registers the model
from amodal2 import model_zoo
from amodal2.checkpoint import AmodalCheckpointer, LoadReport, translate_official
from amodal2.utils.errors import CheckpointError
from tests.checkpoint import official_files as files

# torch says once per parameter that a model without memory keeps no values
pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")

R50, SWIN_L = "a2vis/a2vis_r50_fishbowl.yaml", "a2vis/a2vis_swinl_fishbowl.yaml"


@functools.cache
def meta_model(config: str, classes: int) -> torch.nn.Module:
    """Build a model without memory for its parameters."""
    cfg = model_zoo.get_config(config, trained=False)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def load(model: torch.nn.Module, path: str) -> LoadReport:
    checkpointer = AmodalCheckpointer(model)
    checkpointer.load(path, checkpointables=[])
    return checkpointer.last_report


def parts(names) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_official_tables_have_the_published_counts() -> None:
    r50, swin_l = files.resnet(50), files.swin(**files.SWIN_L)
    model = files.mask2former(r50, classes=80)
    assert len(model) == 558
    assert sum(name.startswith("backbone.") for name in model) == 265
    assert files.count_parameters(model) == 43_970_257
    assert files.count_parameters(files.vita(r50, classes=25)) == 57_127_348
    assert files.count_parameters(files.vita(r50, classes=25, genvis=True)) == 57_390_516
    genvis = files.vita(swin_l, classes=25, queries=200, genvis=True)
    assert files.count_parameters(genvis) == 228_967_848


@pytest.mark.parametrize("layout", ["new", "old"])
@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_official_mask2former_r50_of_any_layout_fills_the_detector(
    tmp_path, layout, suffix
) -> None:
    shapes = files.mask2former(files.resnet(50), classes=80)
    weights = files.tensors(files.old_layout(shapes) if layout == "old" else shapes)
    if suffix == ".pkl":
        path = files.save_pkl(tmp_path / "w.pkl", weights, __author__="third_party")
    else:
        path = files.save_pth(tmp_path / "w.pth", weights)
    report = load(meta_model(R50, 80), path)
    assert report.recognised == (
        "Mask2Former or MinVIS with ResNet-50, 80 classes, 100 frame queries"
    )
    assert report.unexpected == report.mismatched == []
    assert parts(report.missing) == {"a2vis", "vita_module"}
    assert len(report.renamed) == (118 if layout == "old" else 0)


def test_official_mask2former_of_another_class_count_skips_the_class_layers(tmp_path) -> None:
    weights = files.tensors(files.mask2former(files.resnet(50), classes=40))
    report = load(meta_model(R50, 80), files.save_pth(tmp_path / "minvis.pth", weights))
    predictor = "sem_seg_head.predictor.class_embed"
    assert report.mismatched == [
        (f"{predictor}.weight", (41, 256), (81, 256)),
        (f"{predictor}.bias", (41,), (81,)),
        ("criterion.empty_weight", (41,), (81,)),
    ]
    assert report.classes == (40, 80)
    with pytest.raises(CheckpointError, match=r"the file knows 40 classes, the model 80 \(MODEL"):
        report.require_exact("minvis.pth")


def test_official_mask2former_swin_l_fills_the_detector(tmp_path) -> None:
    shapes = files.mask2former(files.swin(**files.SWIN_L), classes=80, queries=200)
    path = files.save_pkl(tmp_path / "w.pkl", files.tensors(shapes), __author__="third_party")
    report = load(meta_model(SWIN_L, 80), path)
    assert report.recognised == ("Mask2Former or MinVIS with Swin-L, 80 classes, 200 frame queries")
    assert report.unexpected == report.mismatched == []
    assert parts(report.missing) == {"a2vis", "vita_module"}
    assert len(report.dropped) == 24
    assert all(name.endswith("attn.relative_position_index") for name in report.dropped)


@pytest.mark.parametrize("backbone", ["ResNet-50", "Swin-L"])
@pytest.mark.parametrize("genvis", [False, True], ids=["vita", "genvis"])
def test_official_vita_fills_the_modules_of_a2vis(tmp_path, genvis, backbone) -> None:
    config, body, queries = R50, files.resnet(50), 100
    if backbone == "Swin-L":
        config, body, queries = SWIN_L, files.swin(**files.SWIN_L), 200
    shapes = files.vita(body, classes=80, queries=queries, genvis=genvis)
    wrapped = {f"module.{name}": value for name, value in files.tensors(shapes).items()}
    report = load(meta_model(config, 80), files.save_pth(tmp_path / "w.pth", wrapped))
    assert report.recognised == (
        f"{'GenVIS' if genvis else 'VITA'} with {backbone}, 80 classes, {queries} frame queries, "
        "100 clip queries"
    )
    assert report.mismatched == []
    assert parts(report.missing) == {"a2vis"}
    assert len(report.renamed) == len(shapes)
    for i in range(3):
        source, target = f"vita_module.mask_embed.layers.{i}.", f"a2vis.visible_embed.layers.{i}."
        assert report.renamed[f"module.{source}weight"] == f"{target}weight"
        assert f"{target}bias" not in report.missing
    linears = {"class_embed", "sim_embed_frame", "sim_embed_clip"}
    if genvis:
        linears |= {f"pre_{what}_embed_{part}" for what in ("memory", "query") for part in "kv"}
    left = {f"vita_module.{name}.{kind}" for name in linears for kind in ("weight", "bias")}
    left.add("genvis_criterion.empty_weight" if genvis else "vita_criterion.empty_weight")
    assert set(report.unexpected) == left


def shared_arrays(shapes: files.Shapes) -> dict[str, np.ndarray]:
    """Arrays, equal ones stored once."""
    arrays = {shape: np.zeros(shape, np.float16) for shape in set(shapes.values())}
    return {name: arrays[shape] for name, shape in shapes.items()}


def backbone_file(tmp_path, kind: str) -> str:
    if kind == "torchvision":
        torch.save(files.tensors(files.torchvision_resnet(50)), tmp_path / "resnet50.pth")
        return str(tmp_path / "resnet50.pth")
    if kind == "torchvision_converted":
        shapes = files.resnet(50) | files.pair("stem.fc", 1000, 2048)
        weights = shared_arrays(shapes)
        author = "torchvision"
    else:
        weights = files.tensors(files.swin_classifier(**files.SWIN_L))
        author = "third_party"
    marks = {} if kind == "swin" else {"__author__": author, "matching_heuristics": True}
    return files.save_pkl(tmp_path / "R.pkl", weights, **marks)


@pytest.mark.parametrize("kind", ["torchvision", "torchvision_converted", "swin", "swin_converted"])
def test_official_backbone_alone_fills_the_backbone(tmp_path, kind) -> None:
    size, config = ("Swin-L", SWIN_L) if "swin" in kind else ("ResNet-50", R50)
    report = load(meta_model(config, 80), backbone_file(tmp_path, kind))
    publisher = "Microsoft" if "swin" in kind else "torchvision"
    assert report.recognised == f"a backbone of {publisher}: {size}"
    assert report.unexpected == report.mismatched == []
    level_norms = {f"backbone.norm{i}.{part}" for i in range(4) for part in ("weight", "bias")}
    missing = {name for name in report.missing if name.startswith("backbone.")}
    assert missing == (level_norms if "swin" in kind else set())
    classifier = {n for n, why in report.dropped.items() if why == "belongs to the classifier"}
    assert (
        parts(classifier)
        == {
            "torchvision": {"fc"},
            "torchvision_converted": {"stem"},
            "swin": {"norm", "head"},
            "swin_converted": {"norm", "head"},
        }[kind]
    )


def test_official_resnet_101_is_told_from_the_blocks() -> None:
    found = translate_official(files.tensors(files.torchvision_resnet(101)))
    assert found.recognised == "a backbone of torchvision: ResNet-101"
    assert found.state.keys() == {f"backbone.{name}" for name in files.resnet(101)}


@pytest.mark.parametrize("suffix", ["", "old"])
def test_official_translation_twice_changes_nothing_more(suffix) -> None:
    shapes = files.vita(files.swin(**files.SWIN_T), classes=40)
    once = translate_official(files.tensors(files.old_layout(shapes) if suffix else shapes))
    twice = translate_official(once.state)
    assert list(twice.state.items()) == list(once.state.items())
    assert twice.renamed == twice.dropped == twice.copied == {}
    assert twice.recognised == once.recognised
    assert "VITA with Swin-T, 40 classes" in once.recognised


def test_official_translation_does_not_look_at_module_versions() -> None:
    state = torch.nn.Sequential(torch.nn.BatchNorm2d(2)).state_dict()
    weights = type(state)(files.tensors(files.torchvision_resnet(50)))
    weights._metadata = {"": {"version": 2}}
    assert not hasattr(translate_official(weights).state, "_metadata")


def test_official_visible_head_starts_from_a_mask_head_that_is_kept() -> None:
    weights = {"vita_module.mask_embed.layers.0.bias": torch.ones(2)}
    names = ["a2vis.visible_embed.layers.0.bias", *weights]
    found = translate_official(weights, names)
    assert found.copied == {names[0]: names[1]}
    assert torch.equal(found.state[names[0]], found.state[names[1]])
    trained = weights | {names[0]: torch.zeros(2)}
    assert translate_official(trained, names).copied == {}


def test_official_weights_of_another_system_stop(tmp_path) -> None:
    shapes = {f"backbone.{name}": shape for name, shape in files.resnet(50).items()}
    shapes |= files.pair("roi_heads.box_predictor.cls_score", 81, 2048)
    shapes |= files.pair("proposal_generator.rpn_head.conv", 256, 1024, 3, 3)
    path = files.save_pth(tmp_path / "w.pth", files.tensors(shapes))
    message = re.escape("(with proposal_generator, roi_heads); to start from its backbone")
    with pytest.raises(CheckpointError, match=message):
        load(meta_model(R50, 80), path)


def test_official_weights_of_another_size_stop(tmp_path) -> None:
    shapes = files.mask2former(files.resnet(50), classes=80)
    slim = {name: tuple(n if n < 64 else n // 2 for n in shape) for name, shape in shapes.items()}
    path = files.save_pth(tmp_path / "w.pth", files.tensors(slim))
    with pytest.raises(CheckpointError, match=r"of this size, got other shapes for \d+ of 293 ent"):
        load(meta_model(R50, 80), path)


def test_official_two_entries_for_one_name_stop(tmp_path) -> None:
    names = ["sem_seg_head.mask_features.bias", "sem_seg_head.pixel_decoder.mask_features.bias"]
    torch.save({name: torch.zeros(256) for name in names}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"expected one key for .* in .*w\.pth"):
        load(meta_model(R50, 80), str(tmp_path / "w.pth"))
