"""What an annotation file holds, key by key and in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from amodal2.structures.image_json import AMODAL_SEGM, ImageDataset
from amodal2.structures.mask_checks import AMODAL_KEY, VISIBLE_KEY
from amodal2.structures.rle import rle_areas
from amodal2.structures.video_json import VideoDataset

OCCLUSION_BINS = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
"""Upper ends of the bins of hidden shares."""


def summarise_video(dataset: VideoDataset) -> list[str]:
    """Describe a video dataset.

    Args:
        dataset: as ``read_video_json`` returns it.

    Returns:
        list[str]: lines of text.
    """
    lengths = [video["length"] for video in dataset.videos]
    names = {entry["id"]: entry["name"] for entry in dataset.categories}
    rates = _track_rates(dataset.annotations)
    gone = sum(1 for rate in rates if rate == 1)
    lines = [f"videos: {len(lengths)}, frames per video {_span(lengths)}, in all {sum(lengths)}"]
    lines += _sizes(dataset.videos)
    lines.append(f"tracks: {len(dataset.annotations)}; with a mask in {len(rates)} frames")
    lines += _by_category(dataset.annotations, names)
    lines += _keys(dataset.annotations)
    if any(AMODAL_KEY in record for record in dataset.annotations):
        lines.append(f"hidden in full in {gone} frames of tracks")
        lines += _histogram(rates)
    return lines


def summarise_images(dataset: ImageDataset) -> list[str]:
    """Describe an image dataset.

    Args:
        dataset: as ``read_image_json`` returns it.

    Returns:
        list[str]: lines of text.
    """
    names = {entry["id"]: entry["name"] for entry in dataset.categories}
    per_image = Counter(record["image_id"] for record in dataset.annotations)
    counts = [per_image[image["id"]] for image in dataset.images]
    lines = [f"images: {len(dataset.images)}, objects per image {_span(counts)}"]
    lines += _sizes(dataset.images)
    lines.append(f"objects: {len(dataset.annotations)}")
    lines += _by_category(dataset.annotations, names)
    lines += _keys(dataset.annotations)
    if any(AMODAL_SEGM in record for record in dataset.annotations):
        known = [record.get("occlusion_rate") for record in dataset.annotations]
        lines += _histogram([rate for rate in known if rate is not None])
    return lines


def _track_rates(tracks: list[dict[str, Any]]) -> list[float]:
    """Return the hidden share in every frame where a track has an amodal mask."""
    rates: list[float] = []
    for track in tracks:
        amodal = track.get(AMODAL_KEY) or track[VISIBLE_KEY]
        pairs = [pair for pair in zip(track[VISIBLE_KEY], amodal, strict=True) if pair[1]]
        seen = rle_areas([visible for visible, _ in pairs if visible])
        whole = rle_areas([mask for _, mask in pairs])
        areas = np.zeros(len(pairs))
        areas[[index for index, (visible, _) in enumerate(pairs) if visible]] = seen
        rates += (1 - areas / whole).tolist()
    return rates


def _span(values: list[int]) -> str:
    if not values:
        return "none"
    return f"{min(values)} to {max(values)}, mean {sum(values) / len(values):.1f}"


def _sizes(entries: list[dict[str, Any]]) -> list[str]:
    sizes = Counter((entry["width"], entry["height"]) for entry in entries)
    common = ", ".join(f"{w}x{h} ({count})" for (w, h), count in sizes.most_common(5))
    return [f"sizes (W x H): {common}" + (", and others" if len(sizes) > 5 else "")]


def _by_category(records: list[dict[str, Any]], names: dict[int, str]) -> list[str]:
    counts = Counter(record["category_id"] for record in records)
    return [f"  category {key:>4} {name:<20} {counts[key]:>8}" for key, name in names.items()]


def _keys(records: list[dict[str, Any]]) -> list[str]:
    """Say in how many records each key is present, null or (lists) null in some entries."""
    present: Counter[str] = Counter()
    null: Counter[str] = Counter()
    for record in records:
        for key, value in record.items():
            present[key] += 1
            null[key] += value is None
    lines = [f"keys of the {len(records)} records:"]
    for key in sorted(present):
        absent = len(records) - present[key]
        notes = [f"missing in {absent}"] * bool(absent) + [f"null in {null[key]}"] * bool(null[key])
        lines.append(f"  {key:<24} {present[key]:>8}  {', '.join(notes)}".rstrip())
    return lines


def _histogram(rates: Iterable[float]) -> list[str]:
    values = np.array(list(rates))
    if not values.size:
        return []
    edges = np.array(OCCLUSION_BINS)
    bins = np.searchsorted(edges, values.clip(0, 1), side="left")
    lines = ["hidden share of the amodal area:"]
    for index, upper in enumerate(edges):
        count = int((bins == index).sum())
        text = "not at all" if index == 0 else f"above {edges[index - 1]:.0%} up to {upper:.0%}"
        lines.append(f"  {text:<24} {count:>8}  {count / values.size:6.1%}")
    return lines
