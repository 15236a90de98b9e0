import cv2
import numpy as np
import pytest

from amodal2.data.importers.movid_a import read_movid_a
from amodal2.structures.rle import decode_rle
from amodal2.utils.errors import AnnotationError


def write_map(path, value, columns, shape=(5, 6)):
    image = np.zeros(shape, np.uint8)
    image[:, columns] = value
    cv2.imwrite(str(path), image)
    return image == value


@pytest.fixture
def split(tmp_path):
    folder = tmp_path / "test" / "12"
    folder.mkdir(parents=True)
    for frame in range(2):
        cv2.imwrite(str(folder / f"rgba_full_{frame:05d}.png"), np.zeros((5, 6, 4), np.uint8))
        write_map(folder / f"segmentation_full_{frame:05d}.png", 11, [frame])
        write_map(folder / f"segmentation_10_{frame:05d}.png", 11, [frame, 3])
    return tmp_path / "test"


def test_read_movid_a_object_ten_has_value_eleven(split):
    (video,) = read_movid_a(split, split)
    assert video.file_names == ["12/rgba_full_00000.png", "12/rgba_full_00001.png"]
    _, frames = video.tracks[10]
    for frame in range(2):
        assert np.flatnonzero(decode_rle(frames[frame].visible)[0]).tolist() == [frame]
        assert np.flatnonzero(decode_rle(frames[frame].amodal)[0]).tolist() == [frame, 3]


def test_read_movid_a_without_objects_alone_says_why(split):
    for path in (split / "12").glob("segmentation_10_*"):
        path.unlink()
    with pytest.raises(AnnotationError, match="the public MOVi of TFDS has no such maps"):
        list(read_movid_a(split, split))


def test_read_movid_a_map_of_other_size_names_file(split):
    write_map(split / "12" / "segmentation_10_00001.png", 11, [0], shape=(4, 6))
    with pytest.raises(AnnotationError, match=r"\(5, 6\) \(H, W\), got \(4, 6\).*10_00001\.png"):
        list(read_movid_a(split, split))


def test_read_movid_a_without_videos_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="segmentation_full_00000"):
        list(read_movid_a(tmp_path, tmp_path))
