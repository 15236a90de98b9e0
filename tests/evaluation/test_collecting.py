"""The numbers of several processes are those of one."""

from __future__ import annotations

import json

import pytest

from amodal2.utils.detectron2_compat import launch
from tests.evaluation.ranks import DEALS, SCENES, evaluate_process, evaluate_share, write_truth


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ranks")
    write_truth(path)
    return path


@pytest.fixture(scope="module")
def alone(folder):
    """The results of one process; the toy is such that they are neither 0 nor 100."""
    results = evaluate_share(folder, list(SCENES))
    assert 0 < results["image"]["amodal"]["AP"] < 100
    assert 0 < results["video"]["amodal"]["HOTA"] < 100
    assert {"visible", "amodal_gt50", "amodal_box"} <= set(results["video"])
    return results


@pytest.mark.slow
def test_collecting_evaluators_two_processes_give_the_numbers_of_one(folder, alone):
    launch(evaluate_process, 2, device="cpu", args=(str(folder),))
    main, other = (json.loads((folder / f"results{rank}.json").read_text()) for rank in range(2))
    assert other == {name: {"image": {}, "video": {}} for name in DEALS}
    assert main == dict.fromkeys(DEALS, alone)


def test_collecting_evaluators_order_of_scenes_does_not_matter(folder, alone):
    assert evaluate_share(folder, [4, 1, 5, 3, 2]) == alone
