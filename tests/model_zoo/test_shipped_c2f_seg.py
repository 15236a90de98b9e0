"""The shipped C2F-Seg on pictures of the market that it has not seen."""

from __future__ import annotations

from pathlib import Path

from amodal2 import model_zoo
from amodal2.data.synthetic.image_writer import ImageSpec, write_image_split
from amodal2.engine.completion import TrackCompletion
from amodal2.engine.dataset_completion import (
    annotated_scenes,
    complete_scene,
    completion_records,
    read_truth,
)
from amodal2.evaluation.completion import evaluate_completions
from amodal2.modeling.completion import CompletionSettings

_CONFIG = "c2f_seg/quick/c2f_seg_market.yaml"


def test_shipped_weights_are_small():
    assert Path(model_zoo.get_checkpoint(_CONFIG)).stat().st_size <= 5e6


def test_shipped_model_finds_hidden_parts_of_new_pictures(tmp_path):
    truth = read_truth(write_image_split(ImageSpec(seed=78), tmp_path, "val", 4))
    files = [
        f"config={model_zoo.get_config_file(_CONFIG)}",
        f"weights={model_zoo.get_checkpoint(_CONFIG)}",
    ]
    occluded = {}
    for name, options in (("c2f_seg", files), ("modal", [])):
        completion = TrackCompletion.build(name, options, CompletionSettings(), "dis")
        records = [
            record
            for scene in annotated_scenes(truth, tmp_path)
            for record in completion_records(scene, complete_scene(completion, scene), image=True)
        ]
        scores = evaluate_completions(truth, records, protocols=["c2f_image"]).percent()
        occluded[name] = scores["c2f_image"]["occ"]
    assert occluded["c2f_seg"] > 25
    assert occluded["modal"] == 0
