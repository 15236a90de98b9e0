"""The stage behind a whole detector: its checkpoint, the trainer's evaluation, the image demo."""

import json

import pytest
import torch
from detectron2.modeling import build_model

from amodal2.checkpoint import AmodalCheckpointer
from amodal2.modeling.mask_transfer.inference import encode_references
from amodal2.modeling.roi_heads import GeneralizedRCNNAmodalWithTTA
from tests.conftest import load_script
from tests.engine.toy import restored_loggers
from tests.modeling.mask_transfer.toy import crop, thing
from tests.modeling.roi_heads.tiny import make_sample, tiny_config
from tests.modeling.roi_heads.toy_pictures import make_pictures

TRANSFER = {"L": 32, "STRIDE": 8, "NUM_CONCEPTS": 8, "MASK_SIZE": 28}
RESNET = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]


def stage_keys(folder, **keys):
    files = {"BANK": str(folder / "bank.pth"), "WEIGHTS": str(folder / "network.pth")}
    values = {**TRANSFER, **files, **keys}
    own = [part for key, v in values.items() for part in (f"MODEL.MASK_TRANSFER.{key}", v)]
    return [*RESNET, "MODEL.ROI_HEADS.NAME", "TransferROIHeads", *own]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a detector without the stage, the stage's network and a bank of the class 0."""
    folder = tmp_path_factory.mktemp("stage")
    torch.manual_seed(1)
    cfg = tiny_config("MaskRCNNConvUpsampleHead")
    AmodalCheckpointer(build_model(cfg), str(folder)).save("detector")
    stage = build_model(tiny_config("MaskRCNNConvUpsampleHead", *stage_keys(folder, WEIGHTS="")))
    network = stage.roi_heads.transfer.eval()
    own, whole = crop(*thing(0))
    encode_references(network, [own], [whole], [0], ["thing"]).save(folder / "bank.pth")
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"model": weights}, folder / "network.pth")
    return folder


def build(folder, head="MaskRCNNConvUpsampleHead", *changes, **keys):
    cfg = tiny_config(head, *stage_keys(folder, **keys), *changes)
    return cfg, build_model(cfg).eval()


def test_detector_s_checkpoint_fits_with_the_stage_and_the_other_way_round(files, tmp_path):
    _, model = build(files)
    checkpointer = AmodalCheckpointer(model, str(tmp_path))
    checkpointer.load(str(files / "detector.pth"))
    assert checkpointer.last_report.exact
    kept = torch.load(files / "network.pth")["model"]
    for name, value in model.roi_heads.transfer.state_dict().items():
        assert value.equal(kept[f"network.{name}"])
    checkpointer.save("again")
    plain = AmodalCheckpointer(build_model(tiny_config("MaskRCNNConvUpsampleHead")))
    plain.load(str(tmp_path / "again.pth"))
    assert plain.last_report.exact


@pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "GeneralizedRCNNAmodal"])
def test_detector_with_the_stage_gives_masks_of_the_image(files, architecture):
    amodal = architecture.endswith("Amodal")
    keys = ["MODEL.META_ARCHITECTURE", architecture]
    _, model = build(files, "MaskRCNNConvUpsampleHead", *keys, KEEP_VISIBLE=amodal)
    sample = make_sample() | {"height": 32, "width": 48}
    with torch.no_grad():
        found = model([sample])[0]["instances"]
    assert len(found) > 0
    assert found.pred_masks.shape == (len(found), 32, 48)
    known = found.pred_classes == 0
    assert (found.mt_ref_id[~known] == -1).all()
    assert found.has("pred_visible_masks") == amodal
    if amodal:
        assert found.pred_amodal_masks.equal(found.pred_masks)


def test_detector_with_the_stage_and_nothing_found_is_legal(files):
    _, model = build(files, "AISFormer", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)
    with torch.no_grad():
        found = model([make_sample()])[0]["instances"]
    assert len(found) == 0
    assert found.pred_amodal_masks.shape == (0, 64, 96)
    assert found.mt_score.shape == (0,)


def test_stage_works_in_given_boxes(files):
    _, model = build(files, "MaskJointHead", "MODEL.AMODAL_RCNN.INFERENCE_WITH_GT_BOXES", True)
    with torch.no_grad():
        found = model([make_sample()])[0]["instances"]
    assert found.pred_classes.tolist() == [0, 2]
    assert found.mt_score[0] > 0
    assert found.mt_score[1] == 0  # no references of its class


def test_stage_and_test_time_augmentation_exclude_each_other(files):
    cfg, model = build(files)
    with pytest.raises(ValueError, match=r"got TransferROIHeads.*set TEST\.AUG\.ENABLED False"):
        GeneralizedRCNNAmodalWithTTA(cfg, model)


def test_stage_takes_the_network_of_another_config(files, tmp_path):
    own = tmp_path / "transfer.yaml"
    lines = [f"    {key}: {value}" for key, value in TRANSFER.items()]
    text = "\n".join(["MODEL:", "  PIXEL_STD: [2.0, 2.0, 2.0]", "  PIXEL_MEAN: [1.0, 2.0, 3.0]"])
    text += "\n  BACKBONE:\n    NAME: build_resnet_backbone\n  MASK_TRANSFER:\n"
    text += "\n".join(lines) + "\n  RESNETS:\n    DEPTH: 18\n    RES2_OUT_CHANNELS: 64\n"
    own.write_text(text + "INPUT:\n  FORMAT: RGB\nVERSION: 2\n")
    keys = ["MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256]
    _, model = build(files, "AISFormer", *keys, CONFIG_FILE=str(own), L=224)
    assert model.roi_heads.transfer.short_side == 32
    image = torch.rand(3, 4, 5) * 255
    normal = (image - model.pixel_mean) / model.pixel_std
    expected = (image.flip(0) - torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)) / 2
    torch.testing.assert_close(model.roi_heads.convert(normal), expected, atol=1e-4, rtol=1e-4)


@pytest.fixture
def pictures(files, tmp_path):
    """Write pictures and a config of the detector with the stage; return folder, data and file."""
    name = make_pictures(tmp_path)
    keys = ["MODEL.ROI_HEADS.NUM_CLASSES", 2, "DATASETS.TEST", (name,), "INPUT.MIN_SIZE_TEST", 64]
    keys += ["DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(tmp_path / "out")]
    keys += ["INPUT.AMODAL.MAPPER", "ImageMapper"]
    cfg = tiny_config("MaskRCNNConvUpsampleHead", *keys)
    AmodalCheckpointer(build_model(cfg), str(tmp_path)).save("detector")
    cfg.merge_from_list(stage_keys(files, KEEP_VISIBLE=True))
    cfg.MODEL.WEIGHTS = str(tmp_path / "detector.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    return tmp_path, name, str(tmp_path / "config.yaml")


def test_train_net_evaluates_a_detector_with_the_stage(pictures):
    folder, name, config = pictures
    tool = load_script("tools/train_net.py")
    with restored_loggers():
        tool.main(tool.parse_arguments(["--config-file", config, "--eval-only"]))
    records = json.loads((folder / f"out/inference/{name}/image_predictions.json").read_text())
    assert {"amodal_segm", "visible_segm"} <= records[0].keys()
    assert any(r["amodal_segm"] != r["visible_segm"] for r in records)


def test_image_demo_draws_a_detector_with_the_stage(pictures):
    folder, _, config = pictures
    tool = load_script("tools/image_demo.py")
    arguments = ["--config-file", config, "--input", str(folder / "1.png"), "--score", "0"]
    with restored_loggers():
        assert tool.main([*arguments, "--output", str(folder / "demo")]) == 0
    records = json.loads((folder / "demo/predictions.json").read_text())
    assert {"amodal_segm", "visible_segm"} <= records[0].keys()
    assert (folder / "demo/panels/1.png").is_file()
