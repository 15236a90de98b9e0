"""Flow from DIS, RAFT and files."""

import cv2
import numpy as np
import pytest
import torch

from amodal2.utils import optical_flow
from amodal2.utils.flow_file import read_flow
from amodal2.utils.optical_flow import DisFlow, FileFlow, RaftFlow, open_flow, turn_round


def write_flo(path, field):
    sides = np.array([field.shape[1], field.shape[0]], "<i4")
    path.write_bytes(b"PIEH" + sides.tobytes() + field.astype("<f4").tobytes())


def field(height=4, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(height, width, 2)).astype(np.float32)


@pytest.fixture
def frames():
    noise = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 2)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
    shifted = np.roll(picture, (1, 3), axis=(0, 1))
    return np.dstack([picture] * 3), np.dstack([shifted] * 3)


def test_dis_flow_finds_a_shift(frames):
    flow = DisFlow()(*frames, 0, 1)
    assert flow.shape == (60, 80, 2)
    np.testing.assert_allclose(np.median(flow[10:-10, 10:-10], axis=(0, 1)), (3, 1), atol=0.2)


@pytest.mark.parametrize("size", [(1, 1), (9, 40)])
def test_dis_flow_small_frames_are_legal(size):
    frame = np.full((*size, 3), 7, np.uint8)
    flow = DisFlow()(frame, frame, 0, 1)
    assert flow.shape == (*size, 2)
    assert np.isfinite(flow).all()


def test_raft_flow_with_weights_runs(frames, tmp_path):
    from torchvision.models.optical_flow import raft_small

    torch.save(raft_small().state_dict(), tmp_path / "raft.pth")
    flow = RaftFlow(tmp_path / "raft.pth")(frames[0][:30, :50], frames[1][:30, :50], 0, 1)
    assert flow.shape == (30, 50, 2)
    assert np.isfinite(flow).all()


def test_raft_flow_other_weights_raise(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "raft.pth")
    with pytest.raises(ValueError, match="expected weights of raft_small, got"):
        RaftFlow(tmp_path / "raft.pth")


@pytest.mark.parametrize("suffix", ["flo", "npy", "npz"])
def test_read_flow_every_format(tmp_path, suffix):
    path, flow = tmp_path / f"a.{suffix}", field()
    if suffix == "flo":
        write_flo(path, flow)
    elif suffix == "npy":
        np.save(path, flow)
    else:
        np.savez(path, flow=flow)
    np.testing.assert_array_equal(read_flow(path), flow)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.flo", b"PIEH\1\0\0\0", "with the tag PIEH"),
        ("a.flo", b"PIEH\2\0\0\0\2\0\0\0abcd", "8 bytes for each pixel of 2x2, got 4"),
        ("a.npy", b"abc", "expected a NumPy file"),
        ("a.npz", b"PK\3\4abc", "expected a NumPy file"),
        ("a.png", b"", "expected a file"),
    ],
)
def test_read_flow_damaged_file_raises(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_flow(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5)), r"expected an array \[H, W, 2\]"),
        (np.full((4, 5, 2), np.nan), "expected finite numbers"),
        (np.full((4, 5, 2), "a"), "expected finite numbers"),
    ],
)
def test_read_flow_wrong_array_raises(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        read_flow(tmp_path / "a.npy")


def test_read_flow_archive_without_the_array_raises(tmp_path):
    np.savez(tmp_path / "a.npz", other=field())
    with pytest.raises(ValueError, match="expected an array 'flow'"):
        read_flow(tmp_path / "a.npz")


def test_file_flow_folder_with_both_directions(tmp_path):
    stored = {}
    for kind, seed in (("forward", 0), ("backward", 9)):
        (tmp_path / kind).mkdir()
        for t in range(2):
            stored[kind, t] = field(seed=seed + t)
            write_flo(tmp_path / kind / f"{t}.flo", stored[kind, t])
    flow, frame = open_flow(tmp_path), np.zeros((4, 5, 3), np.uint8)
    np.testing.assert_array_equal(flow(frame, frame, 1, 1), stored["forward", 1])
    np.testing.assert_array_equal(flow(frame, frame, 1, -1), stored["backward", 0])
    with pytest.raises(ValueError, match="expected forward flow of frame 2, got 2 fields in"):
        flow(frame, frame, 2, 1)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_file_flow_archive(save, dtype, tmp_path):
    forward = np.stack([field(seed=t) for t in range(2)]).astype(dtype)
    backward = np.stack([field(seed=t) for t in range(5, 8)]).astype(dtype)
    save(tmp_path / "a.npz", forward=forward, backward=np.asfortranarray(backward))
    flow, frame = open_flow(tmp_path / "a.npz"), np.zeros((4, 5, 3), np.uint8)
    np.testing.assert_array_equal(flow(frame, frame, 0, 1), forward[0])
    np.testing.assert_array_equal(flow(frame, frame, 2, -1), backward[2])
    assert flow(frame, frame, 0, 1).dtype == np.float32


def test_file_flow_archive_damaged_or_not_finite_raises(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\3\4abc")
    with pytest.raises(ValueError, match="expected a NumPy file"):
        FileFlow.from_archive(tmp_path / "a.npz")
    np.savez(tmp_path / "o.npz", forward=np.array([{}, {}], dtype=object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        FileFlow.from_archive(tmp_path / "o.npz")
    np.savez(tmp_path / "b.npz", forward=np.full((1, 4, 5, 2), np.nan))
    frame = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match="expected finite numbers"):
        FileFlow.from_archive(tmp_path / "b.npz")(frame, frame, 0, 1)


def test_file_flow_derives_the_backward_direction(tmp_path):
    np.save(tmp_path / "0.npy", np.full((4, 5, 2), (1.0, 0.0), np.float32))
    frame = np.zeros((4, 5, 3), np.uint8)
    flow = open_flow(tmp_path)(frame, frame, 1, -1)
    assert flow[2, 2].tolist() == [-1, 0]
    assert flow[2, 0].tolist() == [0, 0]  # nothing points there


def test_turn_round_weights_bilinearly():
    forward = np.zeros((1, 4, 2), np.float32)
    forward[0, 1, 0] = 0.5
    back = turn_round(forward)[0, :, 0]
    np.testing.assert_allclose(back, [0, -0.5, -0.5 * 0.5 / 1.5, 0], atol=1e-6)


def test_open_flow_auto_without_weights_is_dis(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert isinstance(open_flow("auto"), DisFlow)
    with pytest.raises(FileNotFoundError, match=f"{optical_flow.RAFT_FILE}, got none"):
        open_flow("raft")


def test_open_flow_nothing_there_raises(tmp_path):
    with pytest.raises(ValueError, match="expected flow files"):
        open_flow(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected 'auto', 'raft', 'dis'"):
        open_flow(tmp_path / "absent")
    np.savez(tmp_path / "a.npz", other=field())
    with pytest.raises(ValueError, match="expected an array 'forward'"):
        FileFlow.from_archive(tmp_path / "a.npz")
