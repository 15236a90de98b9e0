"""Toy predictions, and a process that evaluates its share of them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils import comm

from amodal2.evaluation.image_amodal import ImageAmodalEvaluator
from amodal2.evaluation.video_amodal import VideoAmodalEvaluator
from amodal2.structures.rle import decode_rle
from amodal2.structures.track import Track, VideoPrediction
from tests.structures.toy_images import image_content, thing
from tests.structures.toy_videos import CRAB, FISH, LENGTH, SIZE, bar, content, track, tube

SCENES = range(1, 6)
"""Ids of the images, and of the videos."""
NAMES = {"image": "toy_v1_amodal_ranks_image", "video": "toy_v1_amodal_ranks_video"}
DEALS = {
    "halves": [[1, 2], [3, 4, 5]],
    "mixed": [[5, 2, 4], [3, 1]],
    "first-empty": [[], [4, 5, 1, 3, 2]],
    "second-empty": [[1, 2, 3, 4, 5], []],
}
"""Name -> scenes of the first and the second rank, in the order in which they are predicted."""


def write_truth(folder: Path) -> None:
    """Write the annotation files: per scene a fish that is hidden in part, and a crab."""
    objects, tracks = [], []
    for scene in SCENES:
        amodal, visible = bar(0, 8 + scene), bar(0, 6)
        objects.append(thing(2 * scene, scene, FISH, amodal_segm=amodal, visible_segm=visible))
        objects.append(thing(2 * scene + 1, scene, CRAB, amodal_segm=bar(12, 18)))
        objects[-1]["visible_segm"] = bar(12, 18)
        lists = {"segmentations": tube(visible), "amodal_segmentations": tube(amodal)}
        tracks.append(track(2 * scene, scene, FISH, **lists))
        tracks.append(track(2 * scene + 1, scene, CRAB, segmentations=tube(bar(12, 18))))
        tracks[-1]["amodal_segmentations"] = tube(bar(12, 18))
    count = len(SCENES)
    (folder / "image.json").write_text(json.dumps(image_content(*objects, images=count)))
    (folder / "video.json").write_text(json.dumps(content(*tracks, videos=count)))


def _found(scene: int) -> list[tuple[int, float, dict, dict]]:
    """Return class index, score, amodal and visible mask: worse in later scenes, equal scores."""
    return [
        (0, 0.8, bar(0, 10), bar(0, 5 + scene % 3)),
        (1, 0.5 + 0.1 * (scene % 2), bar(12 - scene, 18), bar(12, 18)),
        (1, 0.5, bar(12, 18), bar(13, 18)),
    ]


def _instances(scene: int) -> Instances:
    found = _found(scene)
    instances = Instances(SIZE)
    instances.pred_classes = torch.tensor([one[0] for one in found])
    instances.scores = torch.tensor([one[1] for one in found])
    for field, place in (("pred_amodal_masks", 2), ("pred_visible_masks", 3)):
        masks = [torch.from_numpy(decode_rle(one[place])) for one in found]
        instances.set(field, torch.stack(masks))
    return instances


def _video(scene: int) -> VideoPrediction:
    tracks = [
        Track(i, index, score, tube(visible), tube(amodal))
        for i, (index, score, amodal, visible) in enumerate(_found(scene), start=1)
    ]
    return VideoPrediction(scene, *SIZE, LENGTH, tracks)


def evaluate_share(folder: Path, scenes: list[int]) -> dict[str, dict]:
    """Evaluate some scenes, with those of the other ranks if there are any."""
    results = {}
    for kind, name in NAMES.items():
        MetadataCatalog.get(name).set(json_file=str(folder / f"{kind}.json"))
        if kind == "image":
            evaluator = ImageAmodalEvaluator(name)
        else:
            evaluator = VideoAmodalEvaluator(name, metrics=("ap", "hota"), boxes=True)
        evaluator.reset()
        for scene in scenes:
            predicted = {"instances": _instances(scene), "prediction": _video(scene)}
            evaluator.process([{"image_id": scene, "video_id": scene}], [predicted])
        results[kind] = evaluator.evaluate()
        MetadataCatalog.pop(name)
    return results


def evaluate_process(folder: str) -> None:
    """Evaluate all deals as one of two processes."""
    torch.set_num_threads(1)
    rank = comm.get_rank()
    results = {name: evaluate_share(Path(folder), deal[rank]) for name, deal in DEALS.items()}
    (Path(folder) / f"results{rank}.json").write_text(json.dumps(results))
