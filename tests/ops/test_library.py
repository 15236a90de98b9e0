"""Loading the extension, or not."""

from __future__ import annotations

import pytest

from amodal2.ops import _library


def test_load_extension_reference_is_asked_for_loads_nothing(monkeypatch):
    monkeypatch.setattr(_library.importlib, "import_module", lambda name: pytest.fail(name))
    monkeypatch.setenv("AMODAL2_OPS", "reference")
    assert _library._load_extension() == (False, "AMODAL2_OPS=reference")


def test_load_extension_unknown_choice_raises(monkeypatch):
    monkeypatch.setenv("AMODAL2_OPS", "fast")
    with pytest.raises(ValueError, match="AMODAL2_OPS: expected reference or nothing, got 'fast'"):
        _library._load_extension()
