"""What is fuzzed, and what must hold: a right result, or an error that says what was expected.

A target writes drawn content to a folder and calls what reads it. Anything but a result or a
documented error, an error of another form, and a result that the slow :mod:`oracle` contradicts
raise ``AssertionError`` or pass through.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from amodal2.evaluation.completion import evaluate_completions
from amodal2.evaluation.completion_variants import VARIANTS
from amodal2.evaluation.image_predictions import load_record_lists
from amodal2.evaluation.image_protocols import PROTOCOLS, ImageOptions, evaluate_images
from amodal2.evaluation.prediction_files import load_video_predictions
from amodal2.evaluation.report import TRACKING_FRACTIONS, UNDEFINED
from amodal2.evaluation.video_tracks import evaluate_video_tracks
from amodal2.structures.image_json import ImageDataset, read_image_json
from amodal2.structures.video_json import VideoDataset, read_video_json
from tools import check_data
from tools.fuzzing import oracle, seeds
from tools.fuzzing.converters import CONVERTERS, convert
from tools.fuzzing.mutations import Drawn, damaged_text, mutated
from tools.fuzzing.source_seeds import SOURCES

Json = Any
check_data.setup_logging = lambda level: None  # its handler would print every warning
MESSAGE = re.compile(r"^[A-Za-z_][\w.]*: .*\bexpected\b", re.DOTALL)
"""Beginning of every error that a user may see."""
DOCUMENTED = (ValueError, TypeError, FileNotFoundError)
TOLERANCE = 1e-9
LARGEST = 1 << 16
"""Pixels of the largest scenes that the oracle goes through."""
KEYS = {
    "image": {"amodal": "amodal_segm", "visible": "visible_segm"},
    "video": {"amodal": "amodal_segmentations", "visible": "segmentations"},
}


def refused(error: BaseException) -> bool:
    """Tell whether an error is one that the documentation promises."""
    return isinstance(error, DOCUMENTED) and MESSAGE.match(str(error)) is not None


def attempt(call: Callable[[], Any]) -> Any:
    """Call; return None where the input was refused with a documented error."""
    try:
        return call()
    except DOCUMENTED as error:
        if not refused(error):
            raise
        return None


def write(folder: Path, name: str, content: Json | bytes) -> Path:
    """Write JSON, or bytes as they are."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def check_image_file(folder: Path, content: Json | bytes) -> bool:
    """Read an image file in all modes, describe it, and score its own masks."""
    file = write(folder, "images.json", content)
    attempt(lambda: read_image_json(file, strict=True))
    attempt(lambda: read_image_json(file, skip_invalid=True))
    dataset = attempt(lambda: read_image_json(file))
    if dataset is None:
        return False
    _describe(file)
    return _score_images(dataset, _as_predictions(dataset))


def check_video_file(folder: Path, content: Json | bytes) -> bool:
    """Read a video file in all modes, describe it, and score its own masks."""
    file = write(folder, "videos.json", content)
    attempt(lambda: read_video_json(file, strict=True))
    attempt(lambda: read_video_json(file, skip_invalid=True))
    dataset = attempt(lambda: read_video_json(file))
    if dataset is None:
        return False
    _describe(file)
    return _score_videos(dataset, _as_predictions(dataset))


def _describe(file: Path) -> None:
    """Run tools/check_data.py on a valid file; without frames it cannot draw samples."""
    text, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(text), redirect_stderr(errors):
        assert check_data.main([str(file)]) == 0, errors.getvalue()
        status = check_data.main([str(file), "--sheet", str(file.with_suffix(".png"))])
    assert status == 1 or not errors.getvalue()
    text.getvalue().encode("utf-8")


def check_image_predictions(folder: Path, content: Json | bytes) -> bool:
    """Score image predictions by every protocol."""
    dataset = read_image_json(write(folder, "images.json", seeds.images()))
    records = attempt(lambda: load_record_lists([write(folder, "found.json", content)]))
    return records is not None and _score_images(dataset, records)


def check_video_predictions(folder: Path, content: Json | bytes) -> bool:
    """Score tracks in the form of a list or of the demo."""
    dataset = read_video_json(write(folder, "videos.json", seeds.videos()))
    file = write(folder, "found.json", content)
    records = attempt(lambda: load_video_predictions([file], dataset))
    return records is not None and _score_videos(dataset, records)


def check_image_completions(folder: Path, content: Json | bytes) -> bool:
    """Score completions of images by every rule."""
    dataset = read_image_json(write(folder, "images.json", seeds.images()))
    return _score_completions(folder, dataset, content)


def check_video_completions(folder: Path, content: Json | bytes) -> bool:
    """Score completions of videos by every rule."""
    dataset = read_video_json(write(folder, "videos.json", seeds.videos()))
    return _score_completions(folder, dataset, content)


def _as_predictions(dataset: ImageDataset | VideoDataset) -> list[Json]:
    """Return the true objects as predictions of falling score, without the rest of their keys."""
    video = isinstance(dataset, VideoDataset)
    scene = "video_id" if video else "image_id"
    keys = (scene, "category_id", *KEYS["video" if video else "image"].values())
    return [
        {key: record[key] for key in keys if key in record} | {"score": 1 / (2 + i)}
        for i, record in enumerate(dataset.annotations)
    ]


def _score_images(dataset: ImageDataset, records: list[Json]) -> bool:
    options = ImageOptions(class_agnostic=True, occlusion=("cocoa", "vrsp"))
    reports = {
        name: attempt(
            lambda name=name: evaluate_images(dataset, records, protocol=name, options=options)
        )
        for name in PROTOCOLS
    }
    if reports["coco"] is None:
        assert not any(reports.values()), "the protocols do not agree on what is valid"
        return False
    for report in reports.values():
        report.to_json()
        report.to_csv()
        _in_range({name: row.stats for name, row in report.rows.items()})
    sizes = {one["id"]: (one["height"], one["width"]) for one in dataset.images}
    if max((height * width for height, width in sizes.values()), default=0) > LARGEST:
        return True
    _compare(reports["coco"].rows, dataset.annotations, records, sizes, "image")
    return True


def _score_videos(dataset: VideoDataset, records: list[Json]) -> bool:
    report = attempt(
        lambda: evaluate_video_tracks(
            dataset,
            records,
            metrics=("ap", "hota"),
            class_agnostic=True,
            occlusion_bins=True,
            visible_as_amodal=True,
            boxes=True,
        )
    )
    if report is None:
        return False
    report.to_json()
    report.to_csv()
    _in_range({name: row.stats for name, row in report.rows.items()})
    for row in report.tracking.values():
        for stats in row.averages.values():
            fractions = {key: stats[key] for key in TRACKING_FRACTIONS if key in stats}
            fractions["MOTA"] = min(0.0, fractions.get("MOTA", 0.0) - 1) + 1  # it has no lower end
            _in_range({"tracking": {key: max(0.0, value) for key, value in fractions.items()}})
    sizes = {one["id"]: (one["height"], one["width"]) for one in dataset.videos}
    if max((height * width for height, width in sizes.values()), default=0) > LARGEST:
        return True
    _compare(report.rows, dataset.annotations, records, sizes, "video")
    return True


def _score_completions(
    folder: Path, dataset: ImageDataset | VideoDataset, content: Json | bytes
) -> bool:
    records = attempt(lambda: load_record_lists([write(folder, "found.json", content)]))
    if records is None:
        return False
    report = attempt(lambda: evaluate_completions(dataset, records, protocols=list(VARIANTS)))
    if report is None:
        return False
    report.to_json()
    _in_range({name: scores.values for name, scores in report.protocols.items()})
    return True


def _in_range(rows: dict[str, dict[str, float]]) -> None:
    for row, stats in rows.items():
        for name, value in stats.items():
            assert value == UNDEFINED or -TOLERANCE <= value <= 1 + TOLERANCE, (row, name, value)


def _compare(
    rows: dict[str, Any],
    objects: list[Json],
    records: list[Json],
    sizes: dict[int, tuple[int, int]],
    scene: str,
) -> None:
    """Compare the rows of masks with the oracle's."""
    for kind, key in KEYS[scene].items():
        if kind not in rows:
            continue
        true = [_shape(one, key, sizes, scene, kind) for one in objects]
        found = [_shape(one, key, sizes, scene, kind) for one in records]
        kept = [one for one in true if one.pixels.any()]
        expected = oracle.average(kept, found, tubes=scene == "video")
        for name, value in expected.items():
            got = rows[kind].stats[name]
            assert abs(got - value) < TOLERANCE, f"{kind} {name}: {got}, by plain loops {value}"


def _shape(
    record: Json, key: str, sizes: dict[int, tuple[int, int]], scene: str, kind: str
) -> oracle.Shape:
    number = record[f"{scene}_id"]
    masks = record[key] if scene == "video" else [record[key]]
    score = record.get("score", 0.0)
    if kind == "amodal" and scene == "video":
        score = score if record.get("amodal_score") is None else record["amodal_score"]
    area = record.get(f"{kind}_area", 0.0)
    return oracle.Shape(
        number,
        record["category_id"],
        oracle.pixels(masks, sizes[number]),
        score,
        bool(record.get("iscrowd", 0)),
        float(area or 0.0),
    )


def check_converter(name: str) -> Callable[[Path, Json | bytes], bool]:
    """Return the check of one converter."""

    def check(folder: Path, content: Json | bytes) -> bool:
        return convert(name, folder, content)

    return check


_DOCUMENTS: dict[str, tuple[Callable[[], Json], Callable[[Path, Json | bytes], bool]]] = {
    "image_file": (seeds.images, check_image_file),
    "video_file": (seeds.videos, check_video_file),
    "image_predictions": (seeds.image_predictions, check_image_predictions),
    "video_predictions": (seeds.video_predictions, check_video_predictions),
    "tracks_file": (seeds.tracks_file, check_video_predictions),
    "image_completions": (seeds.image_completions, check_image_completions),
    "video_completions": (seeds.video_completions, check_video_completions),
}
"""Target -> valid content, and what is called with damaged content."""

TARGETS = _DOCUMENTS | {
    f"source_{name}": (SOURCES[name], check_converter(name)) for name in CONVERTERS
}


def strategy(name: str) -> st.SearchStrategy[Drawn]:
    """Return the strategy of a target: mostly damaged structure, sometimes damaged text."""
    make = TARGETS[name][0]
    if name in ("source_fishbowl_savos", "source_kins_video_car", "source_cvat", "source_labelme"):
        return mutated(make)
    return st.one_of(mutated(make), mutated(make), mutated(make), damaged_text(make))
