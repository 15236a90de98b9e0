"""Training, building and extending a bank, and measuring, on a few small pictures."""

import json

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.data.datasets import register_amodal_coco_instances
from amodal2.data.synthetic.image_writer import ImageSpec, write_image_split
from amodal2.modeling.mask_transfer import ReferenceBank
from tests.conftest import REPOSITORY, load_script
from tests.engine.toy import restored_loggers

CONFIG = str(REPOSITORY / "configs/mask_transfer/quick/mask_transfer_market.yaml")
NAME = "market_of_the_tools_test"


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Train two steps; return folder and arguments that all tools take."""
    root = tmp_path_factory.mktemp("tools")
    file = write_image_split(ImageSpec(seed=5, width=128, height=96), root, "train", 3)
    register_amodal_coco_instances(NAME, file, root)
    keys = ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", f"('{NAME}',)"]
    keys += ["MODEL.MASK_TRANSFER.L", "32", "MODEL.MASK_TRANSFER.MIN_SIDE", "12"]
    tool = load_script("tools/train_net.py")
    solver = ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "1", "OUTPUT_DIR", str(root / "out")]
    with restored_loggers():
        tool.main(tool.parse_arguments(["--config-file", CONFIG, *keys, *solver]))
    yield root, ["--config-file", CONFIG], keys
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.fixture(scope="module")
def bank(options):
    root, config, keys = options
    weights = ["MODEL.WEIGHTS", str(root / "out/model_final.pth")]
    tool = load_script("tools/build_reference_bank.py")
    small = [*config, "--per-class", "1", "--out", str(root / "bank.pth")]
    assert tool.main([*small, *keys, *weights]) == 0
    return root / "bank.pth"


def test_bank_has_at_most_so_many_references_per_class_and_grows(options, bank):
    root, config, keys = options
    tool = load_script("tools/build_reference_bank.py")
    first = ReferenceBank.load(bank)
    assert len(first) == len(set(first.classes.tolist())) >= 2
    weights = ["MODEL.WEIGHTS", str(root / "out/model_final.pth")]
    (root / "more.pth").write_bytes(bank.read_bytes())
    more = [*config, "--json", str(root / "train.json"), "--root", str(root)]
    for _ in range(2):
        assert tool.main([*more, "--extend", str(root / "more.pth"), *keys, *weights]) == 0
        grown = ReferenceBank.load(root / "more.pth")
        assert grown.sources[: len(first)] == first.sources
        assert len(grown) == len(set(grown.sources)) > len(first)
        assert grown.concepts[: len(first)].sum() == pytest.approx(first.concepts.sum())


def test_bank_tool_says_what_is_wrong(options, tmp_path, capsys):
    root, config, keys = options
    tool = load_script("tools/build_reference_bank.py")
    out = ["--out", str(tmp_path / "bank.pth")]
    assert tool.main([*config, *out, *keys]) == 2
    assert "expected trained weights, got an empty MODEL.WEIGHTS" in capsys.readouterr().err
    weights = ["MODEL.WEIGHTS", str(root / "out/model_final.pth")]
    large = ["MODEL.MASK_TRANSFER.MIN_SIDE", "500"]
    assert tool.main([*config, *out, *keys, *weights, *large]) == 2
    assert "expected at least one reference, got none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit):
        tool.parse_arguments(config)
    with pytest.raises(SystemExit):
        tool.parse_arguments([*config, *out, "--json", "a.json"])


def test_measure_tool_gives_every_metric(options, bank, tmp_path, capsys):
    root, config, keys = options
    tool = load_script("tools/measure_mask_transfer.py")
    weights = ["--weights", str(root / "out/model_final.pth"), "--rounds", "3"]
    named = ["--dataset", NAME, "--json", str(tmp_path / "metrics.json"), "--images", "2"]
    switches = ["--switches", "UNION_VISIBLE True RING 0", "--switches", "TOPK 1"]
    bank_keys = ["MODEL.MASK_TRANSFER.BANK", str(bank), "MODEL.MASK_TRANSFER.TOPK", "2"]
    arguments = [*config, *weights, *named, *switches, *keys, *bank_keys]
    assert tool.main(arguments) == 0
    written = json.loads((tmp_path / "metrics.json").read_text())
    (row,) = written["weights"].values()
    assert row["pairs"]["delta"] == written["mindelta"] > 0
    assert 0 < row["visible"]["miou_all"] < 1
    assert row["visible"]["miou_invisible"] == 0.0
    assert row["transfer"]["matched"] <= row["transfer"]["objects"]
    assert {"AP50", "AP65", "AP75", "AP90", "AP"} <= set(row["transfer"])
    assert row["UNION_VISIBLE True RING 0"]["miou_all"] > row["TOPK 1"]["miou_all"]
    assert "mindelta" in capsys.readouterr().out
    arguments[arguments.index("TOPK 1")] = "TOPK"
    assert tool.main(arguments) == 2
    assert "measure_mask_transfer: " in capsys.readouterr().err


def test_train_net_evaluates_with_the_bank(options, bank):
    root, config, keys = options
    tool = load_script("tools/train_net.py")
    tested = ["DATASETS.TEST", f"('{NAME}',)", "MODEL.MASK_TRANSFER.BANK", str(bank)]
    weights = ["MODEL.WEIGHTS", str(root / "out/model_final.pth"), "OUTPUT_DIR", str(root / "eval")]
    with restored_loggers():
        tool.main(tool.parse_arguments([*config, "--eval-only", *keys, *tested, *weights]))
    folder = root / "eval/inference" / NAME
    rows = json.loads((folder / "image_predictions.json").read_text())
    assert {"amodal_segm", "visible_segm"} <= set(rows[0])
    assert "amodal" in (folder / "image_report.json").read_text()


def test_measure_tool_without_weights_exits_with_two(options, capsys):
    _, config, keys = options
    tool = load_script("tools/measure_mask_transfer.py")
    missing = ["--weights", "nowhere.pth", "--dataset", NAME]
    assert tool.main([*config, *missing, *keys]) == 2
    assert "measure_mask_transfer: " in capsys.readouterr().err
    unknown = ["--weights", "nowhere.pth", "--dataset", "no_such_dataset"]
    assert tool.main([*config, *unknown, *keys]) == 2
    assert "no_such_dataset" in capsys.readouterr().err


def test_bank_can_be_read_with_weights_only(bank):
    assert torch.load(bank, weights_only=True)["version"] == 1
