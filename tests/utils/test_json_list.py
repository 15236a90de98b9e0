from __future__ import annotations

import json

import pytest

from amodal2.utils import json_list
from amodal2.utils.json_list import read_json_list

CONTENT = [{"a": [1, None, "é]"]}, 12345, -1.5e3, "text, [", [], {}, True]


@pytest.fixture(params=[1, 7, 1 << 22])
def chunk(request, monkeypatch):
    """Cut the text everywhere, also inside numbers."""
    monkeypatch.setattr(json_list, "_CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_read_json_list_gives_what_json_gives(tmp_path, indent, encoding):
    file = tmp_path / "list.json"
    for content in (CONTENT, []):
        file.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding)
        assert read_json_list(file, lambda entry: entry) == content


def test_read_json_list_keeps_what_shrink_returns(tmp_path):
    file = tmp_path / "list.json"
    file.write_text("[1, 2]")
    assert read_json_list(file, str) == ["1", "2"]


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    "text", ["", " ", "{}", "5", "[", "[1", "[1,", "[1,]", "[,]", "[1 2]", "[1]]", "[1] x", "[nul]"]
)
def test_read_json_list_other_text_gives_none(tmp_path, text):
    file = tmp_path / "list.json"
    file.write_text(text)
    assert read_json_list(file, lambda entry: entry) is None


def test_read_json_list_bytes_of_no_encoding_give_none(tmp_path):
    file = tmp_path / "list.json"
    file.write_bytes(b'["\xff\xfe"]')
    assert read_json_list(file, lambda entry: entry) is None
