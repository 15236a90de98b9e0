"""The temporary file of masks."""

from __future__ import annotations

from amodal2.structures.mask_file import MaskFile, StoredMask

FIRST = [StoredMask(0, 3, 0, "abc"), StoredMask(0, 3, 1, "\\d0"), StoredMask(1, 5, 0, "e" * 300)]
LAST = [StoredMask(4, 5, 1, "f")]


def filled() -> MaskFile:
    file = MaskFile()
    file.append(2, FIRST)
    file.append(2, [])
    file.append(1, LAST)
    return file


def test_clips_everything_gives_back_what_was_stored():
    file = filled()
    assert file.length == 5
    assert list(file.clips({3, 5}, {0, 1})) == [
        (range(0, 2), FIRST),
        (range(2, 4), []),
        (range(4, 5), LAST),
    ]


def test_clips_slots_and_kinds_select():
    masks = [mask for _, masks in filled().clips({5}, {0}) for mask in masks]
    assert masks == [FIRST[2]]


def test_clips_no_slot_still_gives_the_frames():
    assert [frames for frames, _ in filled().clips((), (0, 1))] == [
        range(0, 2),
        range(2, 4),
        range(4, 5),
    ]


def test_clips_from_a_frame_on_leave_out_the_clips_before():
    file = filled()
    for start, skipped in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 3)):
        assert list(file.clips({3, 5}, {0, 1}, start)) == list(file.clips({3, 5}, {0, 1}))[skipped:]


def test_load_state_dict_replaces_the_content():
    other = MaskFile()
    other.append(7, FIRST * 9)
    for file in (filled(), MaskFile()):
        other.load_state_dict(file.state_dict())
        other.append(1, LAST)
        file.append(1, LAST)
        assert list(other.clips({3, 5}, {0, 1})) == list(file.clips({3, 5}, {0, 1}))
        assert other.length == file.length


def test_append_after_reading_continues_the_file():
    file = filled()
    list(file.clips({3}, {0}))
    file.append(1, [StoredMask(5, 3, 0, "g")])
    assert list(file.clips({3}, {0}))[-1] == (range(5, 6), [StoredMask(5, 3, 0, "g")])


def test_mask_file_directory_holds_no_named_file(tmp_path):
    file = MaskFile(tmp_path)
    file.append(2, FIRST)
    assert list(tmp_path.iterdir()) == []
    file.close()
