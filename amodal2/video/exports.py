"""Tracks as files of other tools: per-frame objects in the COCO layout, tubes in the YTVIS layout.

The keys are those of ``structures/image_json.py`` and ``structures/video_json.py``, whose readers
take the files as ground truth. Those layouts want the visible mask within the amodal one: where a
visible mask has no amodal one beside it, it stands for both. Kinds of masks that were not predicted
have no keys. Masks are written one after the other; memory holds some numbers per frame.
Letters: T frames.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from amodal2.structures.frame_object import FrameObject
from amodal2.structures.rle import RLE, rle_area, rle_box
from amodal2.structures.tube_track import TubeTrack
from amodal2.utils.files import atomic_write
from amodal2.video.tracks import Tracks


def write_coco(
    tracks: Tracks,
    folder: str | Path,
    *,
    name: str,
    category_names: Mapping[int, str],
    file_names: Sequence[str] = (),
) -> None:
    """Write ``coco.json``, every frame as an image with objects, and ``coco_results.json``.

    The first holds ``images, categories, annotations`` with ``track_id`` and ``score``; the second
    is the list of the same objects as predictions of these images.

    Args:
        tracks (Tracks): what to write.
        folder (str | Path): where to write.
        name (str): of the video; frames without a file are called ``name/000000.png`` and so on.
        category_names (Mapping[int, str]): name of each category id.
        file_names (Sequence[str]): T files of the frames, none for a video file.
    """
    with ExitStack() as stack:
        whole, results = (
            stack.enter_context(
                stack.enter_context(atomic_write(Path(folder) / file)).open("w", encoding="utf-8")
            )
            for file in ("coco.json", "coco_results.json")
        )
        images = (
            {
                "id": index + 1,
                "file_name": file_names[index] if file_names else f"{name}/{index:06d}.png",
                "height": tracks.height,
                "width": tracks.width,
                "video_id": 1,
                "frame_index": index,
            }
            for index in range(tracks.length)
        )
        whole.write('{"images": ')
        _write_list(whole, images)
        whole.write(f',\n"categories": {json.dumps(_categories(category_names))},\n')
        whole.write('"annotations": ')
        _write_list(whole, _coco_objects(tracks, results))
        whole.write("}\n")


def write_ytvis(
    tracks: Tracks,
    path: str | Path,
    *,
    file_name: str,
    category_names: Mapping[int, str],
    file_names: Sequence[str] = (),
) -> None:
    """Write ``videos, categories, annotations``: one record per track, with ``score``.

    Args:
        tracks (Tracks): what to write.
        path (str | Path): file to write; it appears when it is complete.
        file_name (str): name of the video.
        category_names (Mapping[int, str]): name of each category id.
        file_names (Sequence[str]): T files of the frames, none for a video file.
    """
    size = {"width": tracks.width, "height": tracks.height, "length": tracks.length}
    names = {"file_names": list(file_names)} if file_names else {"file_name": file_name}
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{{"videos": {json.dumps([{"id": 1, **size, **names}])},\n')
        file.write(f'"categories": {json.dumps(_categories(category_names))},\n"annotations": [')
        for index, track in enumerate(tracks):
            file.write(",\n" if index else "\n")
            head = {
                "id": track.id,
                "video_id": 1,
                "category_id": track.category_id,
                "iscrowd": 0,
                "score": track.score,
                **size,
            }
            file.write(json.dumps(head)[:-1])
            _write_tubes(file, tracks, track)
            file.write("}")
        file.write("]}\n")


def _categories(names: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{"id": key, "name": name} for key, name in sorted(names.items())]


def _write_list(file: TextIO, records: Iterator[dict[str, Any]]) -> None:
    file.write("[")
    for index, record in enumerate(records):
        file.write(f"{',' if index else ''}\n{json.dumps(record)}")
    file.write("]")


def _coco_objects(tracks: Tracks, results: TextIO) -> Iterator[dict[str, Any]]:
    """Yield the objects of all frames and write them as predictions, too."""
    count = 0
    results.write("[")
    for image, objects in enumerate(tracks.frames(), start=1):
        for item in objects:
            place = {"image_id": image, "category_id": item.category_id, "score": item.score}
            masks = _masks_of(item, tracks)
            prediction: dict[str, Any] = {f"{kind}_segm": rle for kind, rle in masks.items()}
            if "amodal" in masks:
                prediction["bbox"] = _box(masks["amodal"])
            results.write(f"{',' if count else ''}\n{json.dumps({**place, **prediction})}")
            count += 1
            yield {"id": count, **place, "track_id": item.id, "iscrowd": 0, **_measured(masks)}
    results.write("]\n")


def _masks_of(item: FrameObject, tracks: Tracks) -> dict[str, RLE | None]:
    masks: dict[str, RLE | None] = {}
    if tracks.has_amodal:
        masks["amodal"] = item.amodal or item.visible
    if tracks.has_visible:
        masks["visible"] = item.visible
    return masks


def _measured(masks: Mapping[str, RLE | None]) -> dict[str, Any]:
    """Add boxes and areas, the occlusion rate, and COCO's own names for the amodal ones."""
    record: dict[str, Any] = {}
    for kind, rle in masks.items():
        record[f"{kind}_segm"] = rle
        record[f"{kind}_bbox"] = _box(rle)
        record[f"{kind}_area"] = 0 if rle is None else rle_area(rle)
    if "amodal" in masks:
        if "visible" in masks:
            rate = _occlusion(record["visible_area"], record["amodal_area"])
            record["occlusion_rate"] = rate
        record["segmentation"] = record["amodal_segm"]
        record["bbox"], record["area"] = record["amodal_bbox"], record["amodal_area"]
    return record


def _write_tubes(file: TextIO, tracks: Tracks, track: TubeTrack) -> None:
    """Write the lists of T entries of one track, null where there is no mask."""
    areas: dict[str, array[int]] = {}
    for prefix, tube in _tubes(tracks, track):
        boxes, areas[prefix] = array("i"), array("q")
        file.write(f', "{prefix}segmentations": [')
        for frame, rle in enumerate(tube):
            boxes.extend(_box(rle) or (0, 0, 0, 0))
            areas[prefix].append(0 if rle is None else rle_area(rle))
            file.write(f"{', ' if frame else ''}{json.dumps(rle)}")
        file.write(f'], "{prefix}bboxes": [')
        for frame, area in enumerate(areas[prefix]):
            box = boxes[4 * frame : 4 * frame + 4].tolist() if area else None
            file.write(f"{', ' if frame else ''}{json.dumps(box)}")
        file.write(f'], "{prefix}areas": {json.dumps([area or None for area in areas[prefix]])}')
    if len(areas) == 2:
        pairs = zip(areas[""], areas["amodal_"], strict=True)
        rates = [_occlusion(visible, amodal) if amodal else None for visible, amodal in pairs]
        file.write(f', "occlusion_rates": {json.dumps(rates)}')


def _tubes(tracks: Tracks, track: TubeTrack) -> Iterator[tuple[str, Iterator[RLE | None]]]:
    if tracks.has_visible:
        yield "", tracks.masks(track, "visible")
    if tracks.has_amodal:
        pairs = zip(tracks.masks(track, "visible"), tracks.masks(track, "amodal"), strict=True)
        yield "amodal_", (amodal or visible for visible, amodal in pairs)


def _box(rle: RLE | None) -> list[int] | None:
    return None if rle is None else list(rle_box(rle))


def _occlusion(visible: int, amodal: int) -> float:
    return min(1.0, max(0.0, 1 - visible / amodal))
