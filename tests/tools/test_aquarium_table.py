"""The aquarium's result table: equal budgets, complete runs kept, an honest summary."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from amodal2.config import get_cfg
from amodal2.data.datasets.video_amodal import register_video_amodal_instances
from amodal2.model_zoo.model_zoo import get_config_file
from tests.conftest import REPOSITORY, load_script
from tests.engine.toy import restored_loggers
from tests.modeling.tiny import TINY_KEYS


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    return load_script("tools/aquarium_table.py")


@pytest.fixture
def variants(tool):
    from benchmarks import aquarium_variants

    return aquarium_variants


@pytest.fixture
def runs(tool):
    from benchmarks import aquarium_runs

    return aquarium_runs


@pytest.fixture
def report(tool):
    from benchmarks import aquarium_report

    return aquarium_report


def result(name, seed, amodal_ap, **changes):
    rows = {"amodal": {"AP": amodal_ap, "IDSW": 3}, "visible": {"AP": 50.0}}
    return {
        "variant": name,
        "seed": seed,
        "options": [],
        "metrics": rows,
        "parameters": 8_800_000,
        "seconds_per_iteration": 1.0,
        "frames_per_second": 20.0,
        **changes,
    }


def write(folder, *results):
    for one in results:
        path = folder / "results" / f"{one['variant']}_seed{one['seed']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(one))


def test_all_rows_see_as_many_frames_and_their_keys_exist(variants, runs, tmp_path):
    plan = runs.Plan(tmp_path, iterations=100)
    names = [variant.name for variant in variants.FULL]
    assert len(set(names)) == len(names)
    for variant in variants.FULL:
        cfg = get_cfg()
        cfg.merge_from_file(get_config_file(variant.config))
        cfg.merge_from_list(runs.run_options(plan, variant, 1))
        clips, solver = cfg.INPUT.AMODAL, cfg.SOLVER
        per_iteration = solver.IMS_PER_BATCH * clips.CLIP_LEN * clips.NUM_CLIPS
        spare = solver.MAX_ITER * per_iteration - 1500 * variant.length
        assert 0 <= spare < per_iteration
        assert solver.WARMUP_ITERS < solver.MAX_ITER
    for variant in variants.REQUIRED:
        cfg = get_cfg()
        cfg.merge_from_file(get_config_file(variant.config))
        assert (variant.detector == "amodal") == (cfg.MODEL.BASELINES.MASKS == "amodal")


def test_select_names_what_is_there(variants):
    assert variants.select(None, full=False) == list(variants.REQUIRED)
    assert [v.name for v in variants.select(["minvis", "a2vis"], full=False)] == ["minvis", "a2vis"]
    with pytest.raises(ValueError, match=r"expected names among a2vis, .*, got a2viz"):
        variants.select(["a2viz"], full=True)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((30.0, 32.0), (20.0, 22.0), r"yes: \+10\.0 amodal AP \(31\.0 ± 1\.0 against 21\.0 ± 1\.0"),
        ((20.0, 22.0), (30.0, 32.0), r"no: -10\.0 amodal AP"),
        ((30.0, 34.0), (33.0, 31.0), r"not told apart by 2 seeds: \+0\.0 amodal AP"),
        ((30.0,), (20.0, 22.0), r"one seed alone does not say: \+9\.0 amodal AP \(30\.0 against"),
        ((), (20.0,), r"not known yet"),
    ],
)
def test_answer_needs_two_seeds_that_agree(report, ours, theirs, expected):
    results = {
        name: [result(name, seed, value) for seed, value in enumerate(values)]
        for name, values in {"a": ours, "b": theirs}.items()
        if values
    }
    assert re.match(expected, report.answer(results, "a", "b"))


def test_write_report_shows_complete_runs_only(report, variants, tmp_path):
    write(tmp_path, result("a2vis", 2, 40.0), result("a2vis", 1, 44.0))
    no_samh = result("a2vis_no_samh", 1, 0.0)
    del no_samh["metrics"]["amodal"]
    write(tmp_path, no_samh)
    text = report.write_report(variants.REQUIRED, tmp_path, ["note"])
    assert (tmp_path / "table.md").read_text() == text
    assert "| A2VIS | 1 2 | 8.80 | 20.0 ± 0.0 | 1.00 |" in text
    amodal = text.split("## Amodal masks\n")[1].split("##")[0]
    assert "| A2VIS | 42.0 ± 2.0 | – | – | – | – | 3.0 ± 0.0 |" in amodal
    assert "without SAMH" not in amodal
    assert "GenVIS-Amodal |" not in text
    stored = json.loads((tmp_path / "table.json").read_text())
    assert [run["seed"] for run in stored["a2vis"]] == [1, 2]
    assert (tmp_path / "table.svg").read_text().count("<rect") == 3


def test_main_skips_complete_runs_and_goes_on_after_a_failure(
    tool, runs, monkeypatch, tmp_path, capsys
):
    calls = []

    def work(function, plan, variant, *seed):
        calls.append((function.__name__, getattr(variant, "name", variant), *seed))
        if calls[-1][1:] == ("genvis_amodal", 1):
            raise RuntimeError("run_variant ended with status -9")
        if seed:
            options = runs.run_options(plan, variant, *seed)
            write(plan.out, result(variant.name, *seed, 30.0, options=options))

    monkeypatch.setattr("benchmarks.table_runs.in_process", work)
    argv = ["--out", str(tmp_path), "--only", "a2vis", "genvis_amodal", "--seeds", "1"]
    assert tool.main(argv) == 1
    assert calls == [
        ("prepare_start", "visible"),
        ("run_variant", "a2vis", 1),
        ("prepare_start", "amodal"),
        ("run_variant", "genvis_amodal", 1),
    ]
    assert "genvis_amodal, seed 1: run_variant ended with status -9" in capsys.readouterr().err
    calls.clear()
    assert tool.main([*argv, "--seeds", "1", "2"]) == 1
    assert ("run_variant", "a2vis", 1) not in calls
    assert ("run_variant", "a2vis", 2) in calls
    calls.clear()
    assert tool.main([*argv, "--iterations", "7"]) == 2
    assert "got one with others; name another --out" in capsys.readouterr().err
    assert calls == []


def test_main_unknown_row_ends_with_status_two(tool, tmp_path, capsys):
    assert tool.main(["--out", str(tmp_path), "--only", "a2viz"]) == 2
    assert "got a2viz" in capsys.readouterr().err


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Render a tiny aquarium."""
    folder = tmp_path_factory.mktemp("aquarium")
    script = load_script("datasets/prepare_aquarium.py")
    small = ["--train", "3", "--val", "1", "--size", "64x48", "--frames", "6", "--workers", "1"]
    assert script.main(["--out", str(folder), *small, "--format", "png"]) == 0
    return folder


@pytest.fixture
def aquarium(tool, runs, rendered, monkeypatch, tmp_path):
    """Make every model tiny, and return a plan for two iterations."""
    monkeypatch.setattr(runs, "SOURCE", "tiny_v1_amodal")
    for split in ("train", "val"):
        register_video_amodal_instances(
            f"tiny_v1_amodal_{split}", rendered / f"{split}.json", rendered
        )
    shared = runs.shared_options
    tiny = [*TINY_KEYS, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 6]
    monkeypatch.setattr(runs, "shared_options", lambda plan: [*shared(plan), *tiny])
    plan = runs.Plan(
        *(tmp_path / "out", 2, 2, 32, 2, 1), weights=str(tmp_path / "start.pth"), score=0.0
    )
    cfg = runs.make_config("a2vis/quick/a2vis_aquarium.yaml", tiny, tmp_path / "model")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    torch.save({"model": build_model(cfg).state_dict()}, plan.weights)
    with restored_loggers():
        yield plan
    made = ("tiny_v1_", "aquarium_v1table")
    for name in [name for name in DatasetCatalog.list() if name.startswith(made)]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_run_variant_writes_numbers_and_goes_on(variants, runs, aquarium):
    plan = aquarium
    (genvis,) = variants.select(["genvis_amodal"], full=False)
    runs.prepare_start(plan, "amodal")
    runs.run_variant(plan, genvis, 1)
    found = json.loads(plan.result(genvis, 1).read_text())
    assert "amodal" in found["metrics"]
    assert "visible" not in found["metrics"]
    assert found["frames_per_second"] > 0
    assert found["seconds_per_iteration"] > 0
    assert found["options"] == json.loads(json.dumps(runs.run_options(plan, genvis, 1)))
    plan.result(genvis, 1).unlink()
    runs.run_variant(plan, genvis, 1)
    again = json.loads(plan.result(genvis, 1).read_text())
    assert again["metrics"] == found["metrics"]
    assert again["seconds_per_iteration"] is None


def test_prepare_start_takes_the_detector_of_its_kind(runs, aquarium):
    plan = aquarium
    for kind in ("visible", "amodal"):
        runs.prepare_start(plan, kind)
    source = torch.load(plan.weights)["model"]
    visible, amodal = (
        torch.load(runs.start_file(plan, kind))["model"] for kind in ("visible", "amodal")
    )
    trained = torch.load(plan.out / "detectors" / "amodal" / "model_final.pth")["model"]
    slots = "vita_module.query_feat.weight"
    query = "sem_seg_head.predictor.query_feat.weight"
    assert torch.equal(visible[query], source[query])
    assert torch.equal(amodal[query], trained[query])
    assert not torch.equal(amodal[query], visible[query])
    for start in (visible, amodal):
        assert torch.equal(start[slots], source[slots])
        assert not any(name.startswith("a2vis.") for name in start)


def test_register_subsets_with_too_few_videos_raises(runs, aquarium):
    with pytest.raises(ValueError, match=r"expected 9 videos in .*train.json, got 3; render more"):
        runs.register_subsets(replace(aquarium, train_videos=9))
