"""A whole dataset through a completer, with its scores."""

import json
import re

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from amodal2.config import get_cfg
from amodal2.data.synthetic.gum_writer import GumSpec, write_gum_split
from amodal2.evaluation.completion import evaluate_completions
from amodal2.structures.rle import encode_mask
from amodal2.structures.video_json import read_video_json
from amodal2.utils.errors import VideoError
from tests.conftest import load_script
from tests.engine.toy import restored_loggers

tool = load_script("tools/complete_dataset.py")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_gum_split(GumSpec("paper", frames=34), tmp_path_factory.mktemp("gum"), "test", 2)


def run(dataset, folder, *more):
    arguments = ["--json", str(dataset), "--output", str(folder / "out.json"), "--device", "cpu"]
    with restored_loggers():
        return tool.main([*arguments, *more])


def scores(dataset, folder, protocol="partly_hidden"):
    records = json.loads((folder / "out.json").read_text())
    report = evaluate_completions(read_video_json(dataset), records, protocols=[protocol])
    return report.percent()[protocol]


def test_main_union_with_exact_flow_finds_everything(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path, "--completer", "union") == 0
    found = scores(dataset, tmp_path)
    assert min(found["full"], found["occ"], found["occ_blend"]) > 99.9
    assert re.search(r"partly_hidden\s", capsys.readouterr().err)


def test_main_convex_finds_less(dataset, tmp_path):
    assert run(dataset, tmp_path, "--completer", "convex") == 0
    found = scores(dataset, tmp_path)
    assert found["occ"] < 70
    assert found["full"] > found["occ"]


def test_main_modal_finds_no_hidden_part(dataset, tmp_path):
    assert run(dataset, tmp_path, "--completer", "modal") == 0
    assert scores(dataset, tmp_path)["occ"] == 0


def make_options(tmp_path, kind):
    """Write a small model's config and weights and return the options that name them."""
    name = {"savos": "SaVos", "unet": "AmodalUNet"}[kind]
    config = tmp_path / "small.yaml"
    config.write_text(
        f"MODEL:\n  META_ARCHITECTURE: {name}\n  SAVOS:\n    BASE_CHANNELS: 2\n"
        "  AMODAL_UNET:\n    CHANNELS: 2\n    PATCH_SIZE: 16\nVERSION: 2\n"
    )
    cfg = get_cfg()
    cfg.merge_from_file(str(config))
    cfg.MODEL.DEVICE = "cpu"
    weights = tmp_path / "weights.pth"
    torch.save({"model": build_model(cfg).state_dict()}, weights)
    return ["--option", f"config={config}", "--option", f"weights={weights}"]


def test_main_adapts_and_draws_how(dataset, tmp_path, capsys):
    options = make_options(tmp_path, "savos")
    more = ["--adapt", "--adapt-iterations", "2", "--adapt-dir", str(tmp_path / "states")]
    assert run(dataset, tmp_path, "--completer", "savos", *options, *more) == 0
    histories = json.loads((tmp_path / "out_adaptation.json").read_text())
    assert [len(one["occluded_iou"]) for one in histories.values()] == [2, 2]
    assert "IoU (%)" in (tmp_path / "out_adaptation.svg").read_text()
    assert sorted(path.name for path in (tmp_path / "states").iterdir()) == ["1.pt", "2.pt"]
    assert "adaptation: 4 iterations and" in capsys.readouterr().err


def test_main_adapting_a_baseline_is_reported(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path, "--completer", "union", "--adapt") == 1
    assert "--adapt: expected the completer savos, got union" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["savos", "unet"])
def test_main_trained_completer_loads_its_weights(dataset, tmp_path, kind):
    options = make_options(tmp_path, kind)
    assert run(dataset, tmp_path, "--completer", kind, *options) == 0
    assert np.isfinite(list(scores(dataset, tmp_path).values())).all()


def test_main_trained_completer_without_weights_is_reported(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path, "--completer", "savos") == 1
    assert "expected config=FILE and weights=FILE for savos" in capsys.readouterr().err


def test_true_boxes_are_those_of_the_masks():
    mask, empty = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    mask[1:3, 2:5] = True
    found = tool.true_boxes({3: [encode_mask(mask), encode_mask(empty), None]})
    assert found == {3: [(2, 1, 3, 2), None, None]}


def test_true_depth_is_the_layers_of_the_order():
    near, far = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    near[:, :2], far[:, 2:4] = True, True
    video = {
        "video_id": 7,
        "depth_order": [[2, 1, 9]],
        "annotations": [
            {"id": 1, "segmentations": [encode_mask(far)]},
            {"id": 2, "segmentations": [encode_mask(near)]},
        ],
    }
    depth = tool.TrueDepth(video)(np.zeros((4, 5, 3), np.uint8), 0)
    assert depth[0].tolist() == [1, 1, 0.5, 0.5, 0]
    with pytest.raises(VideoError, match="expected the depth_order of video 7"):
        tool.TrueDepth({**video, "depth_order": None})
