"""The table of amodal heads: one detector for all rows, complete runs kept, other systems' rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from amodal2.config import get_cfg
from amodal2.data.datasets import register_amodal_coco_instances
from amodal2.model_zoo.model_zoo import get_config_file
from amodal2.structures.rle import decode_rle, encode_mask
from tests.conftest import REPOSITORY, load_script
from tests.engine.toy import restored_loggers


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    return load_script("tools/image_table.py")


@pytest.fixture
def runs(tool):
    from benchmarks import image_runs

    return image_runs


@pytest.fixture
def transfers(tool):
    from benchmarks import image_transfer

    return image_transfer


@pytest.fixture
def report(tool):
    from benchmarks import image_report

    return image_report


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Render a tiny market."""
    folder = tmp_path_factory.mktemp("market")
    script = load_script("datasets/prepare_market.py")
    small = ["--train", "3", "--val", "2", "--size", "96x72", "--workers", "1"]
    assert script.main(["--out", str(folder), *small]) == 0
    return folder


@pytest.fixture
def plan(runs, rendered, monkeypatch, tmp_path):
    """Make the detector tiny, and return a plan for two iterations."""
    monkeypatch.setattr(runs, "SOURCE", "tiny_v1_amodal")
    monkeypatch.setattr(runs, "_CODES", 2)
    names = ("tiny_v1_amodal_train", "tiny_v1_amodal_val")
    for name in names:
        file = rendered / f"{name.rpartition('_')[2]}.json"
        register_amodal_coco_instances(name, file, rendered)
    shared = runs.shared_options
    tiny = [
        *("MODEL.TIMM.NAME", "test_resnet", "SOLVER.IMS_PER_BATCH", 2),
        *("INPUT.MIN_SIZE_TRAIN", (48,), "INPUT.MIN_SIZE_TEST", 48),
        *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 5),
    ]
    monkeypatch.setattr(runs, "shared_options", lambda: [*shared(), *tiny])
    with restored_loggers():
        yield runs.Plan(tmp_path / "out", detector_iterations=2, iterations=2, val_images=2)
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def run(name, seed, amodal_ap, miou=50.0, ap90=10.0):
    return {
        "head": name,
        "seed": seed,
        "options": [],
        "metrics": {
            "amodal": {"AP": amodal_ap},
            "zhang": {"miou_all": miou, "AP90": ap90},
            "boxes/heavy": {"full": 61.25, "occ": 40.0},
        },
        "parameters": 150_000,
        "seconds_per_iteration": 0.25,
        "images_per_second": 9.0,
    }


def write(folder, *results):
    for one in results:
        path = folder / "results" / f"{one['head']}_seed{one['seed']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(one))


def test_all_heads_train_alike(runs, tmp_path):
    plan = runs.Plan(tmp_path)
    settings = []
    for head in runs.HEADS:
        cfg = get_cfg()
        cfg.merge_from_file(get_config_file(runs.config_name(head)))
        cfg.merge_from_list(runs.run_options(plan, head, 1))
        assert cfg.MODEL.AMODAL_RCNN.TRAIN_MASK_HEAD_ONLY
        assert cfg.SOLVER.WARMUP_ITERS < cfg.SOLVER.MAX_ITER
        box = cfg.MODEL.ROI_BOX_HEAD.dump()
        settings.append((box, cfg.MODEL.ROI_HEADS.dump(), cfg.SOLVER.dump(), cfg.INPUT.dump()))
    assert len(set(settings)) == 1
    assert len(settings) == 6


def test_heads_start_from_one_detector_and_leave_it_alone(runs, report, plan):
    for head in ("orcnn", "vrsp"):
        runs.run_head(plan, head, 1)
    start = torch.load(plan.start)["model"]
    assert not any(name.startswith("roi_heads.mask_head.") for name in start)
    found = {}
    for head in ("orcnn", "vrsp"):
        last = plan.out / "runs" / f"{head}_seed1" / "model_final.pth"
        state = torch.load(last, weights_only=False)["model"]
        assert all(torch.equal(state[name], value) for name, value in start.items())
        found[head] = json.loads(plan.result(head, 1).read_text())
    assert {"amodal", "visible", "invisible"} <= found["orcnn"]["metrics"].keys()
    assert found["orcnn"]["images_per_second"] > 0
    assert found["orcnn"]["seconds_per_iteration"] > 0
    assert found["vrsp"]["parameters"] > found["orcnn"]["parameters"]
    text = report.write_report({"orcnn": "ORCNN", "vrsp": "VRSP"}, plan.out, ["note"])
    assert (plan.out / "table.md").read_text() == text
    plan.result("orcnn", 1).unlink()
    runs.run_head(plan, "orcnn", 1)
    again = json.loads(plan.result("orcnn", 1).read_text())
    assert again["metrics"] == found["orcnn"]["metrics"]
    assert again["seconds_per_iteration"] == found["orcnn"]["seconds_per_iteration"]


def test_completions_by_level_know_the_truth(runs, plan):
    truth = runs.read_truth(plan)
    right = [
        {"gt_id": one["id"], "image_id": one["image_id"], "amodal_segm": one["amodal_segm"]}
        for one in truth.annotations
    ]
    rows = runs.score_completions(truth, right)
    assert rows["boxes/all"] == {"full": pytest.approx(100.0), "occ": pytest.approx(100.0)}
    visible = [
        {**record, "amodal_segm": one["visible_segm"]}
        for record, one in zip(right, truth.annotations, strict=True)
    ]
    rows = runs.score_completions(truth, visible)
    assert rows["boxes/none"] == {"full": pytest.approx(100.0)}
    assert rows["boxes/heavy"]["full"] < rows["boxes/partial"]["full"] < 100
    assert rows["boxes/heavy"]["occ"] == 0


def test_true_boxes_are_those_of_the_network_input(runs):
    sample = {"image": torch.zeros(3, 48, 64), "height": 96, "width": 128}
    objects = [{"amodal_bbox": [10.0, 20.0, 30.0, 40.0], "category_id": 4}]
    found = runs.true_boxes(sample, objects, [2, 4])
    assert found.pred_boxes.tensor.tolist() == [[5.0, 10.0, 20.0, 30.0]]
    assert found.pred_classes.tolist() == [1]


class ByHand:
    """Completes every object to the left half of the image."""

    def complete(self, image, given):
        masks = torch.zeros_like(given.pred_visible_masks)
        masks[..., : image.shape[2] // 2] = True
        given.pred_amodal_masks = masks
        return given


def test_transfer_completes_what_was_seen(transfers):
    seen, nothing = np.zeros((2, 4, 6), dtype=bool)
    seen[1:3, 2:5] = True
    record = {"category_id": 9, "bbox": [2.0, 1.0, 3.0, 2.0], "amodal_segm": "old"}
    records = [
        {**record, "score": score, "visible_segm": encode_mask(mask)}
        for score, mask in ((0.9, seen), (0.9, nothing), (0.05, seen))
    ]
    image = torch.zeros(3, 4, 6, dtype=torch.uint8)
    found = transfers.complete(ByHand(), image, records, [3, 9], 0.1)
    assert decode_rle(found[0]["amodal_segm"]).sum(axis=0).tolist() == [4, 4, 4, 0, 0, 0]
    assert found[1:] == records[1:]
    assert transfers.complete(ByHand(), image, records[1:], [3, 9], 0.1) == records[1:]


def test_transfer_scores_the_runs_of_the_detector(runs, transfers, report, plan, monkeypatch):
    truth = runs.read_truth(plan)
    keys = ("image_id", "category_id", "amodal_segm", "visible_segm")
    known = [
        {**{key: one[key] for key in keys}, "score": 1.0, "bbox": one["amodal_bbox"]}
        for one in truth.annotations
    ]
    completed = [
        {**record, "gt_id": one["id"]} for record, one in zip(known, truth.annotations, strict=True)
    ]
    file = plan.predictions("mask_joint", 1)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"detected": known, "completed": completed}))

    class Keeps(torch.nn.Module):
        def complete(self, image, given):
            given.pred_amodal_masks = given.pred_visible_masks
            return given

    monkeypatch.setattr(transfers, "SOURCE", "tiny_v1_amodal")
    monkeypatch.setattr(transfers, "load_model", lambda cfg: Keeps())
    transfer = transfers.Transfer(plan.out / "weights.pth", plan.out / "bank.pth")
    transfers.run_transfer(plan, transfer, "mask_transfer", 1)
    write(plan.out, run("mask_rcnn", 1, 20.0))
    found = json.loads(plan.result("mask_transfer", 1).read_text())
    assert found["options"] == transfer.options("mask_transfer")
    assert found["metrics"]["visible"]["AP"] == pytest.approx(100.0)
    assert found["metrics"]["boxes/heavy"]["occ"] == 0
    text = report.write_report({"mask_rcnn": "A", "mask_transfer": "B"}, plan.out, [])
    assert "Mask transfer above Mask R-CNN in mean IoU? one seed alone does not say" in text


def test_report_shows_the_order_and_what_is_there(report, tmp_path):
    write(tmp_path, *(run("orcnn", k, 30.0 + k) for k in (1, 2)), run("mask_rcnn", 1, 20.0))
    write(tmp_path, run("mask_rcnn", 2, 20.5))
    text = report.write_report({"mask_rcnn": "Mask R-CNN", "orcnn": "ORCNN"}, tmp_path, ["note"])
    assert "ORCNN above Mask R-CNN? yes: +11.2 amodal AP (31.5 ± 0.5 against 20.2 ± 0.2)" in text
    assert "AISFormer above" not in text
    assert "| ORCNN | 1 2 | 150 | 0.25 | 9.0 ± 0.0 |" in text
    assert "| ORCNN | – | – | – | – | – | 61.2 ± 0.0 | 40.0 ± 0.0 |" in text


def test_main_skips_complete_runs_and_goes_on_after_a_failure(
    tool, runs, transfers, monkeypatch, tmp_path, capsys
):
    calls = []
    transfer = transfers.Transfer(tmp_path / "weights.pth", tmp_path / "bank.pth")

    def options_of(plan, name, seed):
        if name in transfers.TRANSFERS:
            return transfer.options(name)
        return runs.run_options(plan, name, seed)

    def work(function, plan, *arguments):
        name, seed = arguments[-2:]
        calls.append((function.__name__, name, seed))
        if name == "bcnet":
            raise RuntimeError("run_head ended with status -9")
        options = json.loads(json.dumps(options_of(plan, name, seed)))
        write(plan.out, {**run(name, seed, 30.0), "options": options})

    monkeypatch.setattr("benchmarks.table_runs.in_process", work)
    files = [str(transfer.weights), str(transfer.bank)]
    argv = ["--out", str(tmp_path), "--transfer", *files, "--only", "bcnet", "mask_joint"]
    assert tool.main(argv) == 1
    assert calls == [
        ("run_head", "bcnet", 1),
        ("run_head", "mask_joint", 1),
        ("run_transfer", "mask_transfer", 1),
        ("run_transfer", "mask_transfer_improved", 1),
    ]
    assert "bcnet, seed 1: run_head ended with status -9" in capsys.readouterr().err
    calls.clear()
    assert tool.main(argv) == 1
    assert calls == [("run_head", "bcnet", 1)]
    assert tool.main([*argv, "--iterations", "7"]) == 2
    assert "got one with others; name another --out" in capsys.readouterr().err
    assert tool.main(argv[:-1]) == 2
    assert "expected mask_joint among --only" in capsys.readouterr().err
