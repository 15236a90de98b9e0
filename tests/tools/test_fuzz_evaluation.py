"""A short, repeatable run of the fuzzer on every target, and a check that it sees what is wrong."""

from __future__ import annotations

import pytest

from amodal2.evaluation import image_ap
from amodal2.structures import rle
from tests.conftest import load_script

tool = load_script("tools/fuzz_evaluation.py")
targets = tool.load_module("targets")
EXAMPLES = 20


@pytest.mark.parametrize("name", targets.TARGETS)
def test_fuzz_valid_document_is_taken(name, tmp_path):
    make, check = targets.TARGETS[name]
    assert check(tmp_path, make())


@pytest.mark.parametrize("name", targets.TARGETS)
def test_fuzz_damaged_documents_give_a_right_result_or_a_documented_error(name, tmp_path):
    check = targets.TARGETS[name][1]
    tool.run_batch(name, EXAMPLES, 0, lambda drawn: check(tmp_path, drawn.content), shrink=True)


def test_fuzz_sees_a_wrong_average_precision(monkeypatch, tmp_path):
    monkeypatch.setattr(image_ap, "mean_defined", lambda values: 0.25)
    make, check = targets.TARGETS["image_predictions"]
    with pytest.raises(AssertionError, match=r"amodal AP: 0\.25, by plain loops"):
        check(tmp_path, make())


@pytest.mark.parametrize(
    "error", [ValueError("something is wrong"), KeyError("id"), RuntimeError("f: expected x")]
)
def test_fuzz_attempt_sees_errors_of_another_form(error):
    def broken():
        raise error

    with pytest.raises(type(error)):
        targets.attempt(broken)


def test_fuzz_attempt_takes_a_documented_error_for_a_refusal(tmp_path):
    file = targets.write(tmp_path, "gt.json", {})
    assert targets.attempt(lambda: targets.read_image_json(file)) is None


def test_fuzz_main_keeps_what_failed_for_a_replay(monkeypatch, tmp_path, capsys):
    def failing(folder, content):
        raise RuntimeError("a bug")

    make = targets.TARGETS["video_file"][0]
    monkeypatch.setitem(targets.TARGETS, "video_file", (make, failing))
    monkeypatch.setattr(tool, "BATCH", 3)
    monkeypatch.setattr(tool.resource, "setrlimit", lambda *limits: None)
    assert tool.main(["--minutes", "0", "--target", "video_*", "--out", str(tmp_path)]) == 0
    session = tool.Session(tmp_path)
    session.run(["video_file"], 0.0001, 1)
    assert session.totals["video_file"]["failed"] > 0
    assert "RuntimeError: a bug" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="a bug"):
        tool.main(["--replay", str(tmp_path / "failure_0.pkl")])


def test_fuzz_unknown_target_is_refused(capsys):
    with pytest.raises(SystemExit):
        tool.main(["--target", "nothing"])
    assert "image_file" in capsys.readouterr().err


def test_oracle_decodes_what_the_project_encodes():
    oracle = tool.load_module("oracle")
    mask = tool.load_module("seeds").rle((6, 10), (2, 1, 7, 5))
    assert (oracle.decode(mask, 6, 10) == rle.decode_rle(mask)).all()
