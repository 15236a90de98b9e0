"""Exceptions that a caller may want to tell apart.

Messages read ``<function>: expected <what>, got <value>[; <remedy>]``.
"""

from __future__ import annotations

from pathlib import Path


class AnnotationError(ValueError):
    """A dataset file holds something that its schema does not allow.

    Attributes:
        file (str | None): the annotation file.
        video_id (int | None): ``id`` of the video entry.
        image_id (int | None): ``id`` of the image entry.
        annotation_id (int | None): ``id`` of the annotation.
        key (str | None): the offending key of the entry.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        video_id: int | None = None,
        image_id: int | None = None,
        annotation_id: int | None = None,
        key: str | None = None,
    ) -> None:
        """Build the error; every place that is given is appended to the message.

        Args:
            message (str): what was expected and what was found.
            file (str | Path | None): the annotation file.
            video_id (int | None): ``id`` of the video entry.
            image_id (int | None): ``id`` of the image entry.
            annotation_id (int | None): ``id`` of the annotation.
            key (str | None): the offending key.
        """
        self.file = None if file is None else str(file)
        self.video_id = video_id
        self.image_id = image_id
        self.annotation_id = annotation_id
        self.key = key
        places = {
            "file": self.file,
            "video": video_id,
            "image": image_id,
            "annotation": annotation_id,
            "key": key,
        }
        where = ", ".join(f"{name} {value}" for name, value in places.items() if value is not None)
        super().__init__(f"{message} [{where}]" if where else message)


class MissingDependencyError(ImportError):
    """An optional library is not installed; the message names the pip extra that brings it."""


class VideoError(RuntimeError):
    """A video or image folder cannot be read, or a video cannot be written."""


class CheckpointError(RuntimeError):
    """A weights file is missing, damaged, or does not fit the model."""
