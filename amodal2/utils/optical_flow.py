"""Optical flow behind one interface: RAFT, OpenCV's DIS, or files.

``flow(first, second, index, step)`` is where the pixels of frame ``index`` are in frame ``index +
step``, step 1 or -1: [H, W, 2], (x, y) in pixels.
"""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from amodal2.utils.flow_file import FLOW_SUFFIXES, FlowField, checked_flow, open_array, read_flow
from amodal2.utils.frame_source import Frame
from amodal2.utils.frames import natural_key
from amodal2.utils.logging import get_logger

RAFT_FILE = "raft_small_C_T_V2-01064c6d.pth"
"""Torchvision's weights of the small RAFT, as it names them in its cache."""
_RAFT_SIDE, _RAFT_MULTIPLE = 128, 8  # least side of its input, and what the sides are multiples of

logger = get_logger(__name__)


class OpticalFlow(ABC):
    """Gives the flow between neighbouring frames of one video."""

    @abstractmethod
    def __call__(self, first: Frame, second: Frame, index: int, step: int) -> FlowField:
        """Return where the pixels of a frame go.

        Args:
            first (ndarray[H, W, 3]): RGB frame ``index``.
            second (ndarray[H, W, 3]): RGB frame ``index + step``.
            index (int): number of the first frame in the video.
            step (int): 1 for the next frame, -1 for the one before.

        Returns:
            ndarray[H, W, 2]: float32 (x, y) in pixels.

        Raises:
            ValueError: if stored flow does not fit the frames or is missing.
        """


class DisFlow(OpticalFlow):
    """Dense inverse search of OpenCV: no weights, some 10 ms for 480 x 320 pixels on one core."""

    def __init__(self) -> None:
        """Set up the preset "medium"."""
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._least = 32  # its pyramid needs patches of 8 pixels at the coarsest level

    def __call__(self, first: Frame, second: Frame, index: int, step: int) -> FlowField:
        """Estimate the flow, see :class:`OpticalFlow`."""
        height, width = first.shape[:2]
        grown = [(0, max(0, self._least - height)), (0, max(0, self._least - width))]
        start, end = (
            np.pad(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), grown, "edge")
            for frame in (first, second)
        )
        empty: Any = None  # OpenCV makes the array, whatever its stubs say
        flow = np.asarray(self._search.calc(start, end, empty), np.float32)[:height, :width]
        return np.nan_to_num(flow)


class RaftFlow(OpticalFlow):
    """Torchvision's small RAFT (Teed and Deng, 2020) with weights from a file."""

    def __init__(self, weights: str | Path, device: str = "cpu") -> None:
        """Load the network.

        Args:
            weights: a state dict of ``torchvision.models.optical_flow.raft_small``.
            device: where it runs.

        Raises:
            ValueError: if the file does not hold such weights.
        """
        from torchvision.models.optical_flow import raft_small

        self._network = raft_small()
        state: Mapping[str, Any] = torch.load(weights, map_location="cpu", weights_only=True)
        try:
            self._network.load_state_dict(state)
        except RuntimeError as e:
            raise ValueError(f"RaftFlow: expected weights of raft_small, got {weights}") from e
        self._network.eval().to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, first: Frame, second: Frame, index: int, step: int) -> FlowField:
        """Estimate the flow, see :class:`OpticalFlow`."""
        height, width = first.shape[:2]
        missing = [_raft_padding(side) for side in (height, width)]
        pair = [
            torch.from_numpy(np.pad(frame, [(0, missing[0]), (0, missing[1]), (0, 0)], "edge"))
            .to(self._device)
            .permute(2, 0, 1)[None]
            .float()
            / 127.5
            - 1
            for frame in (first, second)
        ]
        flow = self._network(*pair)[-1][0, :, :height, :width]
        return flow.permute(1, 2, 0).cpu().numpy()


def _raft_padding(side: int) -> int:
    grown = max(side, _RAFT_SIDE)
    return grown + -grown % _RAFT_MULTIPLE - side


class FileFlow(OpticalFlow):
    """Flow that was stored before: one file per frame and direction, or one archive per video.

    Where nothing is stored for the backward direction, it is the forward flow of the frame before,
    carried to where it points and turned round; pixels that nothing points to get 0.
    """

    def __init__(
        self,
        forward: Sequence[str | Path | None] | np.ndarray,
        backward: Sequence[str | Path | None] | np.ndarray | None = None,
        name: str = "",
    ) -> None:
        """Store where the fields are; files are read when they are asked for.

        Args:
            forward: one file per frame but the last, or the fields (ndarray[T', H, W, 2]).
            backward: one file per frame, the first None, or the fields; None derives it.
            name: where they come from, for messages.
        """
        self._forward, self._backward = forward, backward
        self._name = name

    @classmethod
    def from_folder(cls, folder: str | Path) -> FileFlow:
        """Take the flow files of a folder in natural order.

        Args:
            folder: with forward flow, one file per frame but the last; or with the folders
                ``forward`` and ``backward``, the latter with one file per frame but the first.

        Raises:
            ValueError: if there is no flow.
        """
        path = Path(folder)
        forward = _flow_files(path / "forward" if (path / "forward").is_dir() else path)
        backward = _flow_files(path / "backward") if (path / "backward").is_dir() else []
        if not forward:
            raise ValueError(
                f"FileFlow: expected flow files {sorted(FLOW_SUFFIXES)}, got none in {path}"
            )
        return cls(forward, [None, *backward] if backward else None, str(path))

    @classmethod
    def from_archive(cls, file: str | Path) -> FileFlow:
        """Take the flow of a whole video from an ``.npz`` archive.

        Args:
            file: with arrays ``forward`` [T - 1, H, W, 2] and, optionally, ``backward`` [T, H, W,
                2], whose first field is not used.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged or lacks the array. Fields that are not finite are refused
                when they are asked for.
        """
        path = Path(file)
        forward = open_array(path, "forward")
        with zipfile.ZipFile(path) as archive:
            stored = "backward.npy" in archive.namelist()
        backward = open_array(path, "backward") if stored else None
        return cls(forward, backward, str(path))

    def __call__(self, first: Frame, second: Frame, index: int, step: int) -> FlowField:
        """Read the flow, see :class:`OpticalFlow`."""
        if step == 1:
            return self._field(self._forward, index, "forward", first)
        if self._backward is not None:
            return self._field(self._backward, index, "backward", first)
        return turn_round(self._field(self._forward, index - 1, "forward", first))

    def _field(
        self, fields: Sequence[Any] | np.ndarray, index: int, kind: str, frame: Frame
    ) -> Any:
        field = fields[index] if 0 <= index < len(fields) else None
        if field is None:
            raise ValueError(
                f"FileFlow: expected {kind} flow of frame {index}, got {len(fields)} fields in "
                f"{self._name}"
            )
        if isinstance(field, np.ndarray):
            field = checked_flow(field, Path(self._name))
        else:
            field = read_flow(field)
        if field.shape != (*frame.shape[:2], 2):
            raise ValueError(
                f"FileFlow: expected flow of {frame.shape[1]}x{frame.shape[0]} like the frames, "
                f"got {field.shape[1]}x{field.shape[0]} at frame {index} in {self._name}"
            )
        return field


def turn_round(flow: FlowField) -> FlowField:
    """Return the flow back from the next frame, as far as the flow to it tells.

    Args:
        flow (ndarray[H, W, 2]): from one frame to the next, in pixels.

    Returns:
        ndarray[H, W, 2]: minus the mean of the vectors that land on each pixel, weighted
        bilinearly; 0 where none lands.
    """
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    sums = np.zeros((3, height * width))
    for right in (0, 1):
        for down in (0, 1):
            column, row = np.floor(x) + right, np.floor(y) + down
            weight = (1 - np.abs(x - column)) * (1 - np.abs(y - row))
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = (row[inside] * width + column[inside]).astype(np.int64)
            values = (weight, weight * flow[..., 0], weight * flow[..., 1])
            for number, value in enumerate(values):
                sums[number] += np.bincount(place, value[inside], height * width)
    back = -sums[1:] / np.maximum(sums[0], 1e-6)
    return np.ascontiguousarray(back.reshape(2, height, width).transpose(1, 2, 0), np.float32)


def open_flow(source: str | Path = "auto", *, device: str = "cpu") -> OpticalFlow:
    """Choose where flow comes from.

    Args:
        source: "auto" (RAFT if its weights lie in torch's cache, else DIS; nothing is downloaded),
            "raft", "dis", an ``.npz`` archive, or a folder of flow files.
        device: where RAFT runs.

    Returns:
        OpticalFlow: for one video if it is stored, else for any.

    Raises:
        FileNotFoundError: for "raft" without weights, or if there is no such file or folder.
        ValueError: if what is there holds no flow.
    """
    weights = Path(torch.hub.get_dir()) / "checkpoints" / RAFT_FILE
    if source == "raft" or (source == "auto" and weights.is_file()):
        if not weights.is_file():
            raise FileNotFoundError(
                f"open_flow: expected RAFT's weights at {weights}, got none; put torchvision's "
                "file there or choose 'dis'"
            )
        return RaftFlow(weights, device)
    if source in ("auto", "dis"):
        return DisFlow()
    path = Path(source)
    if path.is_dir():
        return FileFlow.from_folder(path)
    if not path.exists():
        raise FileNotFoundError(
            f"open_flow: expected 'auto', 'raft', 'dis', an archive or a folder, got {source}"
        )
    return FileFlow.from_archive(path)


def video_flow(
    video: Mapping[str, Any], source: str | Path = "auto", *, device: str = "cpu"
) -> OpticalFlow:
    """Take the flow that a video of a dataset has, or choose where else it comes from.

    Args:
        video: a dict of :mod:`amodal2.data.datasets.video_amodal`.
        source: as :func:`open_flow` takes it, for a video without.
        device: where RAFT runs.

    Returns:
        OpticalFlow: for this video.
    """
    if video.get("flow_file") is not None:
        return FileFlow.from_archive(video["flow_file"])
    if video.get("flow_files") is not None:
        return FileFlow(video["flow_files"], name=str(video["video_id"]))
    return open_flow(source, device=device)


def _flow_files(folder: Path) -> list[Path]:
    found = [file for file in folder.iterdir() if file.suffix in FLOW_SUFFIXES]
    return sorted(found, key=lambda file: natural_key(file.name))
