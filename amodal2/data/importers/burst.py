"""BURST: modal masks of the videos of TAO.

A file (``{train,val,test}.json`` and the copies in TAO-Amodal) has ``sequences``: ``dataset`` and
``seq_name``, ``height`` and ``width``, ``annotated_image_paths`` and, one entry per such image,
``segmentations``: track number, counted from 1 in each video -> {"rle": counts}.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amodal2.structures.rle import RLE, to_rle, validate_rle
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import is_text, read_json


@dataclass
class BurstMasks:
    """The masks of a file.

    Args:
        file: path of the JSON file.
        sequences: "dataset/name" of a video -> its entry.
    """

    file: Path
    sequences: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of_video(self, name: str, size: tuple[int, int]) -> dict[str, dict[int, RLE]] | None:
        """Return the masks of a video.

        Args:
            name: path of the folder of its frames, such as ``val/BDD/b1c66a42-6f7d68ca``.
            size: (H, W) of its frames.

        Returns:
            dict: file name of a frame -> track number in the video -> compressed RLE; None if the
            file does not have the video.

        Raises:
            AnnotationError: naming file, sequence and key of a mask that cannot be read.
        """
        key = "/".join(name.split("/")[-2:])
        entry = self.sequences.get(key)
        if entry is None:
            return None
        if (entry["height"], entry["width"]) != size:
            raise AnnotationError(
                f"read_burst: expected frames of {size} (H, W) in {name}, got "
                f"{(entry['height'], entry['width'])}",
                file=self.file,
                key=f"{key}: height, width",
            )
        masks: dict[str, dict[int, RLE]] = {}
        images = zip(entry["annotated_image_paths"], entry["segmentations"], strict=True)
        for frame, (path, objects) in enumerate(images):
            place = f"{key}: segmentations[{frame}]"
            strange = [track for track in objects if not (track.isascii() and track.isdecimal())]
            if strange or max(map(len, objects), default=0) > 9:
                raise AnnotationError(
                    f"read_burst: expected numbers of tracks, got {list(objects)!r:.80}",
                    file=self.file,
                    key=place,
                )
            masks[Path(path).name] = {
                int(track): self._mask(found, size, f"{place}.{track}")
                for track, found in objects.items()
            }
        return masks

    def _mask(self, found: Any, size: tuple[int, int], key: str) -> RLE:
        try:
            counts = found["rle"]
            rle = to_rle({"size": [*size], "counts": counts}, *size)
            validate_rle(rle, size)
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotationError(
                f"read_burst: expected a mask with rle, got {error}", file=self.file, key=key
            ) from error
        return rle


def read_burst(path: str | Path) -> BurstMasks:
    """Read a file of modal masks.

    Args:
        path: JSON file.

    Returns:
        BurstMasks: decoded when a video is asked for.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it has another layout, naming the sequence.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"read_burst: expected a JSON file, got no such file {file}")
    data = read_json(file, "read_burst")
    sequences = data.get("sequences") if isinstance(data, dict) else None
    if not isinstance(sequences, list):
        raise AnnotationError(
            "read_burst: expected an object with a list sequences", file=file, key="sequences"
        )
    masks = BurstMasks(file)
    needed = ("dataset", "seq_name", "height", "width", "annotated_image_paths", "segmentations")
    for index, entry in enumerate(sequences):
        missing = [key for key in needed if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise AnnotationError(
                f"read_burst: expected a sequence with {', '.join(needed)}, got none of {missing}",
                file=file,
                key=f"sequences[{index}]",
            )
        paths, objects = entry["annotated_image_paths"], entry["segmentations"]
        if not (isinstance(paths, list) and all(map(is_text, paths))) or not (
            isinstance(objects, list) and all(isinstance(one, dict) for one in objects)
        ):
            raise AnnotationError(
                "read_burst: expected a list of paths and a list of objects by track, got "
                f"{paths!r:.40} and {objects!r:.40}",
                file=file,
                key=f"sequences[{index}]",
            )
        if len(entry["annotated_image_paths"]) != len(entry["segmentations"]):
            raise AnnotationError(
                f"read_burst: expected {len(entry['annotated_image_paths'])} entries, one per "
                f"annotated image, got {len(entry['segmentations'])}",
                file=file,
                key=f"sequences[{index}].segmentations",
            )
        masks.sequences[f"{entry['dataset']}/{entry['seq_name']}"] = entry
    return masks
