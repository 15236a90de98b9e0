import json
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from amodal2.data.synthetic import writer
from amodal2.data.synthetic.render import render_frame
from amodal2.data.synthetic.writer import DatasetSpec, build_scene, write_split
from amodal2.structures.video_json import read_video_json

SPEC = DatasetSpec(seed=7, width=64, height=48, frames=5, format="png", flow=True)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    write_split(SPEC, root, "train", 3)
    write_split(SPEC, root, "val", 1)
    return root


def load(root, split="train"):
    return json.loads((root / f"{split}.json").read_text())


def test_write_split_two_processes_give_the_same_bytes(written, tmp_path):
    write_split(SPEC, tmp_path, "train", 3, workers=2)
    write_split(SPEC, tmp_path, "val", 1)
    assert contents(tmp_path) == contents(written)


def test_write_split_videos_do_not_depend_on_their_number(written, tmp_path):
    write_split(SPEC, tmp_path, "train", 1)
    many, one = load(written), load(tmp_path)
    assert one["videos"] == many["videos"][:1]
    assert one["annotations"] == many["annotations"][: len(one["annotations"])]
    frames = {k: v for k, v in contents(tmp_path).items() if not k.endswith(".json")}
    assert frames.items() <= contents(written).items()


def test_write_split_splits_and_seeds_differ(written, tmp_path):
    write_split(replace(SPEC, seed=8), tmp_path, "train", 1)
    first = (written / "train_00000/00000.png").read_bytes()
    assert first != (written / "val_00000/00000.png").read_bytes()
    assert first != (tmp_path / "train_00000/00000.png").read_bytes()


def test_write_split_keeps_to_the_video_schema(written):
    dataset = read_video_json(written / "train.json")
    content = load(written)
    assert len(dataset.videos) == 3
    assert [video["id"] for video in content["videos"]] == [1, 2, 3]
    ids = [track["id"] for track in content["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    assert [c["id"] for c in content["categories"]] == [1, 2, 3, 4, 5, 6]
    for track in content["annotations"]:
        assert track["iscrowd"] == 0
        assert (track["width"], track["height"], track["length"]) == (64, 48, 5)
        assert any(mask is not None for mask in track["segmentations"])


def test_write_split_without_depth_says_nothing_of_it(written):
    assert "depth" not in load(written)["info"]
    assert "depth_files" not in load(written)["videos"][0]


def test_write_split_depth_order_lists_the_objects_with_an_amodal_mask(written):
    content = load(written)
    for video in content["videos"]:
        for t, order in enumerate(video["depth_order"]):
            present = {
                track["id"]
                for track in content["annotations"]
                if track["video_id"] == video["id"] and track["amodal_segmentations"][t] is not None
            }
            assert len(order) == len(present)
            assert set(order) == present


def test_write_split_frames_and_flow_are_those_of_the_scene(written):
    video = load(written)["videos"][1]
    frame = render_frame(build_scene(SPEC, "train", 1), 2, 48, 64, flow=True)
    image = cv2.imread(str(written / video["file_names"][2]))[..., ::-1]
    np.testing.assert_array_equal(image, frame.image)
    flow = np.load(written / video["flow_files"][2])["flow"]
    assert flow.dtype == np.float16
    np.testing.assert_array_equal(flow, frame.flow.astype(np.float16))
    assert video["flow_files"][4] is None


def test_write_split_same_parameters_again_change_nothing(written):
    before = (written / "train.json").stat().st_mtime_ns
    write_split(SPEC, written, "train", 3)
    assert (written / "train.json").stat().st_mtime_ns == before


def test_write_split_other_parameters_are_refused_without_force(tmp_path):
    png = replace(SPEC, flow=False, frames=2)
    write_split(png, tmp_path, "train", 2)
    with pytest.raises(FileExistsError, match="--force"):
        write_split(png, tmp_path, "train", 1)
    write_split(replace(png, format="mp4"), tmp_path, "train", 1, force=True)
    assert sorted(contents(tmp_path)) == ["train.json", "train_00000.mp4"]


def test_write_split_missing_frame_is_rendered_again_with_force(tmp_path):
    png = replace(SPEC, flow=False, frames=2)
    write_split(png, tmp_path, "train", 1)
    before = contents(tmp_path)
    (tmp_path / "train_00000/00001.png").unlink()
    with pytest.raises(FileExistsError, match="missing files"):
        write_split(png, tmp_path, "train", 1)
    write_split(png, tmp_path, "train", 1, force=True)
    assert contents(tmp_path) == before


def test_write_split_removes_what_a_killed_run_left(tmp_path):
    (tmp_path / ".train_00000.abc").mkdir()
    write_split(replace(SPEC, flow=False, frames=1), tmp_path, "train", 1)
    assert not (tmp_path / ".train_00000.abc").exists()


def test_write_split_mp4_same_bytes_from_one_process_two_and_again(tmp_path):
    spec = replace(SPEC, format="mp4", width=240, height=160, frames=14)
    for name, workers in (("one", 1), ("two", 2), ("again", 1)):
        write_split(spec, tmp_path / name, "train", 2, workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "again")


def test_write_split_mp4_does_not_depend_on_the_instructions_of_the_processor(
    tmp_path, monkeypatch
):
    spec = replace(SPEC, format="mp4", flow=False, width=240, height=160, frames=14)
    write_split(spec, tmp_path / "fast", "train", 1)
    monkeypatch.setattr(writer, "_X264_PARAMS", f"{writer._X264_PARAMS}:asm=0")
    write_split(spec, tmp_path / "plain", "train", 1)
    assert contents(tmp_path / "fast") == contents(tmp_path / "plain")


def test_write_split_mp4_shows_the_scene(tmp_path):
    spec = replace(SPEC, format="mp4", flow=False)
    write_split(spec, tmp_path, "train", 1)
    video = load(tmp_path)["videos"][0]
    with av.open(str(tmp_path / video["file_name"])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5
    image = render_frame(build_scene(spec, "train", 0), 3, 48, 64).image
    assert np.abs(frames[3].astype(int) - image).mean() < 10


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scene": "desert"}, "scene in"),
        ({"depth": True}, r"depth of \['playroom'\], got aquarium"),
        ({"seed": -1}, "seed >= 0"),
        ({"frames": 129}, "frames in 1..128"),
        ({"frames": 0}, "frames in 1..128"),
        ({"format": "gif"}, "format"),
        ({"fps": 0}, "fps"),
        ({"format": "mp4", "width": 65}, "even width"),
    ],
)
def test_dataset_spec_bad_value_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        replace(SPEC, **change)


def test_build_scene_unknown_split_is_refused():
    with pytest.raises(ValueError, match="expected a split"):
        build_scene(SPEC, "test", 0)


def test_write_split_bad_count_is_refused(tmp_path):
    with pytest.raises(ValueError, match="workers >= 1"):
        write_split(SPEC, tmp_path, "train", 1, workers=0)
