from __future__ import annotations

import math

import pytest

from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import check_entries, is_box, is_id, is_number, is_text, read_json


@pytest.mark.parametrize(
    "content", [b"{", b"[" * 100_000, b"\xff", b"1" * 5000], ids=["cut", "deep", "bytes", "digits"]
)
def test_read_json_broken_file_names_reader_and_file(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(AnnotationError, match=r"^some_reader: expected JSON, got .*a\.json"):
        read_json(file, "some_reader")


@pytest.mark.parametrize("value", [0, -5, 2**53])
def test_is_id_integers_of_usual_size(value):
    assert is_id(value)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 2**53 + 1, -(2**63)])
def test_is_id_refuses(value):
    assert not is_id(value)


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, 10**400])
def test_is_number_refuses(value):
    assert not is_number(value)
    assert not is_box([0, 0, 1, value])


@pytest.mark.parametrize("value", [1, None, "\ud800", "a\0b"])
def test_is_text_refuses(value):
    assert not is_text(value)


@pytest.mark.parametrize("value", [[-5, -5.5, 0, 3], (0, 0, 1e5, 1e5)])
def test_is_box_may_leave_the_image(value):
    assert is_box(value)


@pytest.mark.parametrize("value", [None, "0011", [0, 0, 1], [0, 0, -1, 1], [0, 0, 1e6, 1e6]])
def test_is_box_refuses(value):
    assert not is_box(value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (5, r"an object, got 5.*key things\[1\]"),
        ({"name": "a", "list": []}, r"an integer id, got None.*key things\[1\]\.id"),
        ({"id": 1, "name": 3, "list": []}, r"expected a text name, got 3.*\.name"),
        ({"id": 1, "name": "a", "list": {}}, r"expected a list list, got \{\}.*\.list"),
    ],
)
def test_check_entries_names_reader_file_entry_and_key(entry, message):
    good = {"id": 1, "name": "a", "list": [], "more": None}
    with pytest.raises(AnnotationError, match=rf"^reader: .*{message}"):
        check_entries(
            [good, entry], {"id": int, "name": str, "list": list}, "reader", "a.json", "things"
        )
