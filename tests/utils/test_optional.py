"""Tests of amodal2/utils/optional.py."""

import json
import sys

import pytest

from amodal2.utils.errors import MissingDependencyError
from amodal2.utils.optional import require


def test_require_present_returns_the_module():
    assert require("json", "any") is json


@pytest.mark.parametrize("name", ["no_such_library", "no_such_library.part"])
def test_require_absent_names_the_extra(name):
    with pytest.raises(MissingDependencyError, match=r"amodal2\[backbones\]"):
        require(name, "backbones")


def test_require_broken_dependency_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import its_missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_missing_dependency") as caught:
        require("broken_library", "any")
    assert not isinstance(caught.value, MissingDependencyError)
    assert "broken_library" not in sys.modules
