"""Completion of all objects of an annotation file, of images or videos.

An image is a scene of one frame. What is completed are the annotated visible masks, or those of
predicted tracks; the latter are judged where they show a true object.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from amodal2.engine.completion import TrackCompletion
from amodal2.evaluation.track_matching import match_visible
from amodal2.structures.image_json import (
    AMODAL_SEGM,
    VISIBLE_SEGM,
    ImageDataset,
    read_image_json,
)
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.rle import RLE, decode_rle, encode_mask, rle_area, rle_box
from amodal2.structures.track import MaskTube, Track
from amodal2.structures.video_json import VideoDataset, read_video_json
from amodal2.utils.depth import DepthSource, layered_depth
from amodal2.utils.errors import VideoError
from amodal2.utils.frames import open_frames
from amodal2.utils.optical_flow import FileFlow, OpticalFlow

Record = dict[str, Any]
Truth = TypeVar("Truth", VideoDataset, ImageDataset)


@dataclass
class Scene:
    """One video or image and what is to be completed in it.

    Attributes:
        id: of the video or image.
        source: path of the video, or those of its frames.
        tracks: with visible masks.
        truth: true amodal masks by track id, for adaptation; empty with predicted tracks.
        flow: stored optical flow; None if there is none.
        objects: id of the true object -> id of the track that shows it.
        order: ids of the true objects frame by frame, as ``depth_order`` of the file; None if
            there is none.
        visible: true visible masks by id.
    """

    id: int
    source: str | list[str]
    tracks: list[Track]
    truth: dict[int, MaskTube] = field(default_factory=dict)
    flow: OpticalFlow | None = None
    objects: dict[int, int] = field(default_factory=dict)
    order: list[list[int]] | None = None
    visible: dict[int, MaskTube] = field(default_factory=dict)

    def true_depth(self) -> DepthSource:
        """Return the layers of the objects as depth.

        Raises:
            VideoError: if their order is not known.
        """
        if self.order is None:
            raise VideoError(
                f"Scene.true_depth: expected the depth_order of video {self.id}, got none"
            )
        return _OrderDepth(self.order, self.visible)

    def true_boxes(self) -> dict[int, list[tuple[int, int, int, int] | None]]:
        """Return the boxes (x, y, width, height) of the true amodal masks by track id."""
        return {
            number: [rle_box(rle) if rle and rle_area(rle) else None for rle in tube]
            for number, tube in self.truth.items()
        }


class _OrderDepth(DepthSource):
    """Layers of the objects of a video whose order is known."""

    def __init__(self, order: list[list[int]], visible: dict[int, MaskTube]) -> None:
        self._order, self._visible = order, visible

    def __call__(self, frame: np.ndarray, index: int) -> np.ndarray:
        """Return the layers of a frame, see ``DepthSource``."""
        tubes = [self._visible[i][index] for i in self._order[index] if i in self._visible]
        masks = [decode_rle(rle).astype(bool) for rle in tubes if rle is not None]
        empty = np.zeros((0, *frame.shape[:2]), bool)
        return layered_depth(np.stack(masks) if masks else empty, len(self._visible))


def read_truth(file: str | Path, limit: int | None = None) -> VideoDataset | ImageDataset:
    """Read annotations of images or videos, whichever the file holds.

    Args:
        file: JSON.
        limit: the first so many images or videos; None takes all.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is invalid.
    """
    path = Path(file)
    if path.is_file() and b'"videos"' not in path.read_bytes():
        images = read_image_json(file)
        images.images = images.images[:limit]
        known = {image["id"] for image in images.images}
        images.annotations = [r for r in images.annotations if r["image_id"] in known]
        return images
    videos = read_video_json(file)
    videos.videos = videos.videos[:limit]
    known = {video["id"] for video in videos.videos}
    videos.annotations = [r for r in videos.annotations if r["video_id"] in known]
    return videos


def annotated_scenes(dataset: VideoDataset | ImageDataset, root: str | Path) -> list[Scene]:
    """Return the scenes of a dataset with the annotated visible masks.

    Args:
        dataset: the ground truth.
        root: folder that its paths are relative to.

    Returns:
        list[Scene]: crowds, and objects of images of which nothing is visible, are left out.
    """
    if isinstance(dataset, ImageDataset):
        grouped = _by_scene(dataset.annotations, "image_id")
        return [
            _scene(entry["id"], [os.path.join(root, entry["file_name"])], records)
            for entry in dataset.images
            if (records := [_as_tube(r) for r in grouped.get(entry["id"], []) if r[VISIBLE_SEGM]])
        ]
    grouped = _by_scene(dataset.annotations, "video_id")
    scenes = []
    for entry in dataset.videos:
        scene = _scene(entry["id"], _frames(entry, root), grouped.get(entry["id"], []))
        scene.flow, scene.order = _stored_flow(entry, root), entry.get("depth_order")
        scenes.append(scene)
    return scenes


def predicted_scenes(
    dataset: VideoDataset | ImageDataset,
    root: str | Path,
    records: Sequence[Record],
    least_score: float = 0.0,
) -> list[Scene]:
    """Return the scenes of a dataset with predicted masks in place of the annotated ones.

    Args:
        dataset: the ground truth, which tells what shows which object.
        root: folder that its paths are relative to.
        records: predictions, as ``load_video_predictions`` or ``check_image_predictions`` return
            them; objects of images of which nothing is visible are left out.
        least_score: of the tracks that are taken.

    Raises:
        ValueError: if the predictions have no visible masks.
    """
    image = isinstance(dataset, ImageDataset)
    needed, key = (VISIBLE_SEGM, "image_id") if image else (VISIBLE_KEY, "video_id")
    if not all(needed in record if image else record.get(needed) for record in records):
        raise ValueError(f"predicted_scenes: expected predictions with '{needed}', got others")
    annotations: Sequence[Record] = dataset.annotations
    if image:
        records, annotations = (
            [_as_tube(r) for r in part if r[VISIBLE_SEGM]] for part in (records, annotations)
        )
    taken = _by_scene((r for r in records if r["score"] >= least_score), key)
    scenes = annotated_scenes(dataset, root)
    truth = _by_scene(annotations, key)
    for scene in scenes:
        own = taken.get(scene.id, [])
        scene.tracks = [
            Track(number, r["category_id"], r["score"], list(r[VISIBLE_KEY]), *_own_amodal(r))
            for number, r in enumerate(own, start=1)
        ]
        pairs = match_visible(truth.get(scene.id, []), own)
        scene.objects = {one: place + 1 for one, place in pairs.items()}
        scene.truth = {}
    return scenes


def complete_scene(
    completion: TrackCompletion,
    scene: Scene,
    only: Collection[int] | None = None,
    depth: DepthSource | None = None,
) -> list[list[Track]]:
    """Complete the objects of one scene.

    Args:
        completion: the completer.
        scene: what is to be completed; amodal masks of its tracks are not looked at, boxes of true
            ones only by completers that cut objects out by them.
        only: ids of the tracks that are completed and returned; None takes all.
        depth: of this video; None takes that of the completion.

    Returns:
        list: one list of tracks per sample of the completer.
    """
    tracks = [replace(track, amodal=None, amodal_score=None) for track in scene.tracks]
    with open_frames(scene.source) as source:
        samples = completion.predict(
            source,
            tracks,
            flow=scene.flow,
            name=str(scene.id),
            truth=scene.truth,
            only=only,
            depth=depth,
            boxes=scene.true_boxes() if completion.completer.rule.follow == "boxes" else None,
        )
    return [sample.tracks for sample in samples]


def completion_records(
    scene: Scene, samples: Sequence[Sequence[Track]], *, image: bool = False
) -> list[Record]:
    """Return what ``evaluate_completions`` reads.

    Args:
        scene: what was completed.
        samples: of :func:`complete_scene`.
        image: the scene is an image.
    """
    found = []
    for number, tracks in enumerate(samples):
        amodal = {track.id: track.amodal for track in tracks}
        for one, track in scene.objects.items():
            if track not in amodal:
                continue
            tube = amodal[track] or []
            masks = {AMODAL_SEGM: tube[0]} if image else {AMODAL_KEY: tube}
            scene_id = {"image_id" if image else "video_id": scene.id}
            found.append({"gt_id": one, **scene_id, "sample": number, **masks})
    return found


def object_records(scene: Scene, tracks: Sequence[Track]) -> list[Record]:
    """Return prediction records of the objects of an image, see ``check_image_predictions``."""
    return [
        {
            "image_id": scene.id,
            "category_id": track.category_id,
            "score": track.score,
            VISIBLE_SEGM: (track.visible or [None])[0],
            AMODAL_SEGM: (track.amodal or [None])[0],
        }
        for track in tracks
    ]


def track_records(scene: Scene, tracks: Sequence[Track]) -> list[Record]:
    """Return prediction records of the tracks of a video, see ``VideoPrediction``."""
    return [
        {
            "id": track.id,
            "video_id": scene.id,
            "category_id": track.category_id,
            "score": track.score,
            VISIBLE_KEY: track.visible,
            AMODAL_KEY: track.amodal,
            **({} if track.amodal_score is None else {"amodal_score": track.amodal_score}),
        }
        for track in tracks
    ]


def add_visible(tracks: Sequence[Track]) -> list[Track]:
    """Give every amodal mask the pixels of the visible one too (C2F-Seg's post-processing)."""
    return [
        replace(
            track,
            amodal=[
                _union(a, v) for a, v in zip(track.amodal or [], track.visible or [], strict=True)
            ],
        )
        for track in tracks
    ]


def keep_objects(dataset: Truth, scenes: Iterable[Scene]) -> Truth:
    """Return the ground truth of the objects that a track shows."""
    shown = {one for scene in scenes for one in scene.objects}
    return replace(dataset, annotations=[r for r in dataset.annotations if r["id"] in shown])


def _scene(number: int, source: str | list[str], records: Sequence[Record]) -> Scene:
    real = [record for record in records if not record["iscrowd"]]
    return Scene(
        number,
        source,
        [Track(r["id"], r["category_id"], 1.0, r[VISIBLE_KEY]) for r in real],
        {r["id"]: r[AMODAL_KEY] for r in real if r.get(AMODAL_KEY) is not None},
        objects={r["id"]: r["id"] for r in real},
        visible={r["id"]: r[VISIBLE_KEY] for r in real},
    )


def _as_tube(record: Record) -> Record:
    """Return an object of an image as a track of one frame."""
    return record | {VISIBLE_KEY: [record[VISIBLE_SEGM]], AMODAL_KEY: [record.get(AMODAL_SEGM)]}


def _frames(entry: Record, root: str | Path) -> str | list[str]:
    if "file_names" in entry:
        return [os.path.join(root, name) for name in entry["file_names"]]
    return os.path.join(root, entry["file_name"])


def _stored_flow(entry: Record, root: str | Path) -> OpticalFlow | None:
    if "flow_file" in entry:
        return FileFlow.from_archive(os.path.join(root, entry["flow_file"]))
    if "flow_files" in entry:
        files = [name and os.path.join(root, name) for name in entry["flow_files"]]
        return FileFlow(files, name=str(entry["id"]))
    return None


def _own_amodal(record: Record) -> tuple[MaskTube | None, float | None]:
    """Return a prediction's own amodal masks and their score, None each if it has none."""
    masks = record.get(AMODAL_KEY)
    return None if masks is None else list(masks), record.get("amodal_score")


def _by_scene(records: Iterable[Record], key: str) -> dict[int, list[Record]]:
    grouped: dict[int, list[Record]] = {}
    for record in records:
        grouped.setdefault(record[key], []).append(record)
    return grouped


def _union(one: RLE | None, other: RLE | None) -> RLE | None:
    if one is None or other is None:
        return one or other
    return encode_mask(decode_rle(one) | decode_rle(other))
