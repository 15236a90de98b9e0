"""From what a user names (files, folders, patterns) to the videos in it."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from amodal2.utils.errors import VideoError
from amodal2.utils.frames import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    FrameSource,
    folder_name,
    list_images,
    natural_key,
    open_frames,
)
from amodal2.utils.live_stream import LiveStream, public_name, scheme_of


@dataclass(frozen=True)
class VideoInput:
    """One video to work on.

    Attributes:
        name (str): unique among the inputs; fit for a folder name.
        path (Path): the video file, or the folder of the images.
        images (tuple[Path, ...]): the images in order, empty for a video file.
    """

    name: str
    path: Path
    images: tuple[Path, ...] = ()

    def open(self, fps: float = 25.0) -> FrameSource:
        """Open the video.

        Args:
            fps (float): frames per second assumed for images.

        Returns:
            FrameSource: at its beginning.

        Raises:
            VideoError: if it cannot be read.
        """
        return open_frames(list(self.images) or self.path, fps=fps)


@dataclass(frozen=True)
class LiveInput:
    """A camera or stream to work on.

    Attributes:
        name (str): unique among the inputs; fit for a folder name.
        address (str): what ``LiveStream`` opens.
    """

    name: str
    address: str

    def open(self) -> LiveStream:
        """Open the stream.

        Returns:
            LiveStream: with its first frame.

        Raises:
            VideoError: if it cannot be read.
        """
        return LiveStream(self.address)


def find_inputs(patterns: Sequence[str]) -> tuple[list[VideoInput | LiveInput], list[str]]:
    """Find the videos that files, folders, glob patterns and addresses name.

    A folder of images is one video; a folder without images stands for the videos in it. Image
    files of the same folder, named one by one or by a pattern, are the frames of one video. What is
    no file and begins like ``camera:`` or ``rtsp:`` is the address of a stream.

    Args:
        patterns (Sequence[str]): paths, patterns or addresses; ``**`` descends into folders.

    Returns:
        tuple[list[VideoInput | LiveInput], list[str]]: the videos without repetition, and a message
        for each pattern that names none.
    """
    videos: dict[Path | str, list[Path]] = {}  # to its images; addresses are text
    problems: list[str] = []
    for pattern in patterns:
        if scheme_of(pattern) and not Path(pattern).exists():
            videos.setdefault(pattern, [])
            continue
        try:
            for path in _expand(pattern):
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    images = videos.setdefault(path.parent, [])
                    if path not in images:
                        images.append(path)
                else:
                    videos.setdefault(path, [])
        except VideoError as e:
            problems.append(str(e))
    names = _unique_names([Path(_label(key)) for key in videos])
    inputs = [
        LiveInput(name, key) if isinstance(key, str) else VideoInput(name, key, tuple(images))
        for name, (key, images) in zip(names, videos.items(), strict=True)
    ]
    return inputs, problems


def _label(key: Path | str) -> Path | str:
    """Turn an address into the name of a file."""
    if isinstance(key, Path):
        return key
    return re.sub(r"[^\w.-]+", "_", public_name(key)).strip("_.")


def _expand(pattern: str) -> Iterator[Path]:
    """Yield the video and image files that one pattern names."""
    path = Path(pattern)
    if not path.exists():
        matches = glob.glob(pattern, recursive=True) if glob.has_magic(pattern) else []
        if not matches:
            what = "a pattern that matches something" if glob.has_magic(pattern) else "a file"
            raise VideoError(f"find_inputs: expected {what} or a folder, got {pattern}: not found")
        found = [Path(match) for match in sorted(matches, key=natural_key)]
        files = [path for path in found if path.is_file()]
        yield from files or [file for folder in found for file in _expand(str(folder))]
    elif path.is_dir():
        images = list_images(path)
        videos = [file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES]
        if not images and not videos:
            raise VideoError(
                f"find_inputs: expected a folder with images or videos, got none in {path}"
            )
        yield from images or sorted(videos, key=lambda file: natural_key(file.name))
    else:
        yield path


def _unique_names(paths: list[Path]) -> list[str]:
    """Name each video by its stem, by its folder too where stems collide, then by a number.

    Only suffixes of videos are left out, since the name of a folder may have a dot as well.
    """
    stems = [
        (path.stem if path.suffix.lower() in VIDEO_SUFFIXES else folder_name(path)) or "video"
        for path in paths
    ]
    names: list[str] = []
    for path, stem in zip(paths, stems, strict=True):
        name = stem
        if stems.count(stem) > 1 and path.resolve().parent.name:
            name = f"{path.resolve().parent.name}_{stem}"
        candidate, number = name, 2
        while candidate in names:
            candidate, number = f"{name}_{number}", number + 1
        names.append(candidate)
    return names
