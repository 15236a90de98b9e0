"""Tests of amodal2/utils/env.py."""

import subprocess
import sys

import torch

import amodal2
from amodal2.ops import op_paths
from amodal2.utils import env


def test_environment_report_names_versions_and_every_operator(monkeypatch):
    monkeypatch.setenv("AMODAL2_BUILD", "cpu")
    report = env.environment_report()
    lines = [line.split(maxsplit=1) for line in report.splitlines()]
    assert ["amodal2", amodal2.__version__] in lines
    assert ["AMODAL2_BUILD", "cpu"] in lines
    for name, path in op_paths().items():
        assert [name, f"{path.path} ({path.reason})"] in lines


def test_library_versions_without_a_library_says_so(monkeypatch):
    monkeypatch.setattr(env, "LIBRARIES", ("torch", "no-such-library"))
    found = env.library_versions()
    assert torch.__version__.startswith(found["torch"])
    assert found["no-such-library"] == "not installed"


def test_tool_versions_without_tools_is_none(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert env.tool_versions() == {"C++ compiler": "none", "nvcc": "none"}


def test_importing_the_package_and_the_report_is_light():
    code = "import sys, amodal2, amodal2.utils.env\n"
    code += "heavy = {'torch', 'detectron2', 'numpy', 'amodal2.ops'} & set(sys.modules)\n"
    code += "sys.exit(str(heavy) if heavy else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
