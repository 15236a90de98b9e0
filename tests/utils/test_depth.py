"""Depth from files, from the order of objects, and none."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from amodal2.utils.depth import DepthFiles, layered_depth

FRAME = np.zeros((4, 6, 3), np.uint8)
DEPTH = np.arange(72, dtype=np.uint16).reshape(3, 4, 6)


@pytest.mark.parametrize("kind", ["npy", "npz", "png", "tif", "array.npy", "array.npz"])
def test_depth_files_every_format_gives_the_values(tmp_path: Path, kind: str) -> None:
    for t, depth in enumerate(DEPTH):
        path = tmp_path / f"{t}.{kind}"
        if kind == "npy":
            np.save(path, depth)
        elif kind == "npz":
            np.savez(path, depth)
        elif not kind.startswith("array"):
            cv2.imwrite(str(path), depth)
    source = tmp_path
    if kind.startswith("array"):
        source = tmp_path / kind
        (np.save if kind.endswith("npy") else np.savez)(source, DEPTH)
    files = DepthFiles(source)
    assert len(files) == 3
    for t in range(3):
        found = files(FRAME, t)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, DEPTH[t])
    np.testing.assert_array_equal(
        DepthFiles(source, larger_is_nearer=False)(FRAME, 1), -DEPTH[1].astype(np.float32)
    )
    with pytest.raises(ValueError, match="expected depth of frame 3, got 3 frames"):
        files(FRAME, 3)


def test_depth_files_wrong_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder of"):
        DepthFiles(tmp_path)
    np.save(tmp_path / "flat.npy", DEPTH[0])
    with pytest.raises(ValueError, match=r"expected an array \[T, H, W\]"):
        DepthFiles(tmp_path / "flat.npy")
    files = DepthFiles(tmp_path)
    with pytest.raises(ValueError, match="like frame 0"):
        files(np.zeros((5, 6, 3), np.uint8), 0)
    np.save(tmp_path / "flat.npy", np.full((4, 6), np.nan))
    with pytest.raises(ValueError, match="with values from nan"):
        files(FRAME, 0)
    (tmp_path / "flat.npy").write_bytes(b"text")
    with pytest.raises(ValueError, match="expected an array in"):
        files(FRAME, 0)
    (tmp_path / "flat.npy").unlink()
    cv2.imwrite(str(tmp_path / "colour.png"), FRAME)
    with pytest.raises(ValueError, match=r"expected a grey image in .*, got 3 channels"):
        DepthFiles(tmp_path)(FRAME, 0)


def test_layered_depth_nearer_objects_are_larger_and_cover() -> None:
    near, far = np.zeros((2, 4, 6), bool)
    near[1:3, 1:3] = True
    far[:, 2:5] = True
    depth = layered_depth(np.stack([near, far]), 4)
    assert depth[1, 1] == depth[1, 2] == 1
    assert depth[0, 3] == 0.75
    assert depth[0, 0] == 0
    assert not layered_depth(np.zeros((0, 4, 6), bool), 0).any()
