"""The shipped detector on pictures of the market that it was not trained on."""

from __future__ import annotations

import json
from pathlib import Path

from amodal2 import model_zoo
from amodal2.data.synthetic.image_writer import ImageSpec, write_image_split
from amodal2.evaluation.image_protocols import evaluate_images
from amodal2.structures.image_json import read_image_json
from tests.conftest import load_script
from tests.engine.toy import restored_loggers

_CONFIG = "roi_heads/quick/mask_joint_market.yaml"


def test_shipped_image_model_is_small() -> None:
    assert Path(model_zoo.get_checkpoint(_CONFIG)).stat().st_size <= 8e6


def test_shipped_image_model_finds_things_of_an_unseen_market(tmp_path: Path) -> None:
    write_image_split(ImageSpec(seed=77, width=320, height=240), tmp_path, "val", 6)
    demo = load_script("tools/image_demo.py")
    arguments = ["--config-file", model_zoo.get_config_file(_CONFIG), "--score", "0.05"]
    files = ["--input", str(tmp_path / "val"), "--ids", str(tmp_path / "val.json")]
    output = tmp_path / "out"
    with restored_loggers():
        assert demo.main([*arguments, *files, "--output", str(output), "--save", "json"]) == 0
    predictions = json.loads((output / "predictions.json").read_text())
    truth = read_image_json(tmp_path / "val.json")
    scores = evaluate_images(truth, predictions, details=False).percent()
    assert scores["amodal"]["AP50"] >= 45
    assert scores["amodal"]["AP"] >= 17
    assert scores["visible"]["AP"] >= 16
    sure = [record for record in predictions if record["score"] >= 0.4]
    assert len(sure) >= len(truth.annotations) / 2
