"""Optical flow fields on disk: Middlebury ``.flo``, and NumPy's ``.npy`` and ``.npz``.

Dimensions: T frames, H W image. Vectors are (x, y) displacements in pixels of the frame, +y down.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

FlowField = npt.NDArray[np.float32]  # [H, W, 2]
FLOW_SUFFIXES = frozenset({".flo", ".npy", ".npz"})

_FLO_TAG = b"PIEH"
_LARGEST_SIDE = 1 << 16
_ZIP_NAMES_AT, _ZIP_HEADER = 26, 30  # in a zip entry: lengths of its names; end of its fixed part


def read_flow(path: str | Path) -> FlowField:
    """Read one flow field.

    Args:
        path: a ``.flo`` file, an ``.npy`` array or an ``.npz`` archive with an array ``flow``.

    Returns:
        ndarray[H, W, 2]: float32, finite.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is none of these, is damaged, or holds other than finite vectors.
    """
    file = Path(path)
    if file.suffix == ".flo":
        field = _read_flo(file)
    elif file.suffix in FLOW_SUFFIXES:
        field = read_array(file, "flow")
    else:
        raise ValueError(f"read_flow: expected a file {sorted(FLOW_SUFFIXES)}, got {file}")
    if field.ndim != 3 or field.shape[2] != 2:
        raise ValueError(f"read_flow: expected an array [H, W, 2], got {field.shape} in {file}")
    return checked_flow(field, file)


def checked_flow(field: npt.NDArray[np.generic], file: Path) -> FlowField:
    """Return flow vectors as float32.

    Args:
        field (ndarray[..., 2]): of any numeric type.
        file: where they come from, for the message.

    Raises:
        ValueError: if a value is not finite or no number.
    """
    if field.dtype.kind not in "fiu" or not np.isfinite(field).all():
        raise ValueError(f"read_flow: expected finite numbers, got others in {file}")
    return np.asarray(field, np.float32)


def read_array(file: Path, name: str) -> npt.NDArray[np.generic]:
    """Read an ``.npy`` array or one array of an ``.npz`` archive.

    Args:
        file: its path.
        name: of the array in the archive.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or lacks the array.
    """
    with _named_errors(file, name):
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            return np.asarray(content[name])


def open_array(file: Path, name: str) -> npt.NDArray[np.generic]:
    """Open one array of an ``.npz`` archive; what is not compressed stays on disk until it is read.

    Args:
        file: its path.
        name: of the array in the archive.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or lacks the array.
    """
    with _named_errors(file, name):
        with zipfile.ZipFile(file) as archive:
            entry = archive.getinfo(f"{name}.npy")
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                plain = entry.compress_type == zipfile.ZIP_STORED and version == (1, 0)
                if plain:
                    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
                    header = stream.tell()
        if plain and not dtype.hasobject:  # bytes of a file are no objects
            with file.open("rb") as raw:
                raw.seek(entry.header_offset + _ZIP_NAMES_AT)
                start = entry.header_offset + _ZIP_HEADER + sum(struct.unpack("<HH", raw.read(4)))
            order: Literal["C", "F"] = "F" if by_columns else "C"
            return np.memmap(file, dtype, "r", start + header, shape, order)
    return read_array(file, name)


@contextmanager
def _named_errors(file: Path, name: str) -> Iterator[None]:
    """Turn what goes wrong with an array of a file into errors that name both."""
    try:
        yield
    except KeyError as e:
        raise ValueError(f"read_array: expected an array '{name}' in {file}, got none") from e
    except (ValueError, EOFError, zipfile.BadZipFile) as e:
        raise ValueError(f"read_array: expected a NumPy file, got {file}: {e}") from e


def _read_flo(file: Path) -> npt.NDArray[np.generic]:
    data = file.read_bytes()
    if data[:4] != _FLO_TAG or len(data) < 12:
        raise ValueError(f"read_flow: expected a .flo file with the tag PIEH, got {file}")
    width, height = np.frombuffer(data, "<i4", 2, offset=4).tolist()
    good = 0 < width < _LARGEST_SIDE and 0 < height < _LARGEST_SIDE
    if not good or len(data) != 12 + 8 * width * height:
        raise ValueError(
            f"read_flow: expected 8 bytes for each pixel of {width}x{height}, got "
            f"{len(data) - 12} in {file}"
        )
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)
