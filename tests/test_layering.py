"""The rules of the package's structure: who may import whom, what no module may do, sizes.

Everything is read from the syntax trees; nothing of the package is imported.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "amodal2"
MAY_IMPORT = {
    "utils": set(),
    "config": {"utils"},
    "ops": {"utils", "_C"},
    "structures": {"ops", "utils"},
    "layers": {"ops", "utils"},
    "data": {"structures", "ops", "config", "utils"},
    "modeling": {"layers", "ops", "structures", "config", "utils"},
    "checkpoint": {"utils"},
    # Nothing imports it; like Detectron2's it builds ready models.
    "model_zoo": {"modeling", "checkpoint", "config", "utils"},
    "evaluation": {"structures", "ops", "config", "utils"},
    "visualization": {"structures", "utils"},
    "video": {"structures", "ops", "visualization", "utils"},
}
MAY_IMPORT["engine"] = set(MAY_IMPORT)
SHARED_MODELING = {"mask_classification", "completion"}
"""Parts of ``modeling`` that every system may import; systems never import one another."""

MODULE_LINES = 500
FUNCTION_LINES = 80
MODULES = sorted(PACKAGE.rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def dotted_name(path: Path) -> list[str]:
    """Return a module's name in parts, e.g. ["amodal2", "ops", "mask_warp"]."""
    parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_names(path: Path) -> list[list[str]]:
    """Return the names of amodal2 that a module imports anywhere, in parts, relative ones resolved.

    ``from a import b`` counts as ``a.b``, since b may be a module.
    """
    names = []
    package = list(path.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            names += [[*base, alias.name] for alias in node.names]
    return [name for name in names if name[0] == "amodal2"]


def layer_violations(path: Path) -> list[str]:
    """Return the imports of a module that the table does not allow."""
    own = dotted_name(path)
    if len(own) == 1:
        return [".".join(name) for name in imported_names(path)]
    found = []
    for name in imported_names(path):
        # ``import amodal2`` and ``from amodal2 import __version__`` reach no layer.
        if len(name) == 1 or name[1].startswith("__"):
            continue
        allowed = name[1] == own[1] or name[1] in MAY_IMPORT[own[1]]
        if own[1] == name[1] == "modeling" and len(own) > 2 and len(name) > 2:
            is_system = (PACKAGE / "modeling" / own[2]).is_dir()
            allowed = not is_system or name[2] == own[2] or name[2] in SHARED_MODELING
        if not allowed:
            found.append(".".join(name))
    return found


def forbidden_calls(tree: ast.Module) -> list[str]:
    """Return prints, debugger imports and device literals, with their lines."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("print", "breakpoint"):
                found.append(f"line {node.lineno}: {node.func.id}(")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "cuda":
                found.append(f"line {node.lineno}: .cuda(")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None)]
            if "pdb" in modules:
                found.append(f"line {node.lineno}: import pdb")
    return found


def mute_checks(tree: ast.Module) -> list[int]:
    """Return the lines of asserts and raises of a class that have no message."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and node.msg is None:
            found.append(node.lineno)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            if not (node.exc.args or node.exc.keywords):
                found.append(node.lineno)
    return found


def untyped_functions(tree: ast.Module) -> list[str]:
    """Return public functions and methods with an argument or a return value without a type."""
    found = []
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    scopes += [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for scope in scopes:
        for node in scope.body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            args = node.args
            every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
            named = [arg for arg in every if arg is not None and arg.arg not in ("self", "cls")]
            if node.returns is None or any(arg.annotation is None for arg in named):
                found.append(node.name)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(dotted_name(path)))
class TestModule:
    """Each module of the package by itself."""

    def test_imports_follow_the_table(self, path):
        assert layer_violations(path) == []

    def test_has_no_print_debugger_or_device_literal(self, path):
        assert forbidden_calls(parse(path)) == []

    def test_every_check_has_a_message(self, path):
        assert mute_checks(parse(path)) == []

    def test_public_functions_are_typed(self, path):
        assert untyped_functions(parse(path)) == []

    def test_sizes_stay_within_the_limits(self, path):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
        sizes = {
            node.name: node.end_lineno - node.lineno + 1
            for node in ast.walk(parse(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert {name: size for name, size in sizes.items() if size > FUNCTION_LINES} == {}


def test_every_package_is_in_the_table():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders <= set(MAY_IMPORT)


def test_every_folder_with_modules_is_a_package():
    assert [str(path) for path in MODULES if not (path.parent / "__init__.py").is_file()] == []


def test_scripts_are_no_packages():
    for folder in ("tools", "datasets", "configs"):
        assert not list((REPOSITORY / folder).rglob("__init__.py"))


@pytest.fixture
def made_up_package(tmp_path, monkeypatch):
    """Put an empty package in place of ours and return a function that writes its modules."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "amodal2")

    def write(name: str, text: str) -> Path:
        path = tmp_path / "amodal2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("utils/a.py", "def f():\n    import amodal2.ops", ["amodal2.ops"]),
        ("utils/a.py", "from amodal2 import ops", ["amodal2.ops"]),
        ("utils/a.py", "from amodal2 import __version__\nimport amodal2", []),
        ("utils/a.py", "from ..ops import x", ["amodal2.ops.x"]),
        ("utils/a.py", "from . import errors", []),
        ("structures/a.py", "from amodal2.ops import x\nfrom amodal2.utils.errors import y", []),
        ("video/a.py", "from amodal2.modeling import x", ["amodal2.modeling.x"]),
        ("modeling/a2vis/a.py", "from ..savos.model import x", ["amodal2.modeling.savos.model.x"]),
        ("modeling/a2vis/a.py", "from ..mask_classification.matcher import x", []),
        ("modeling/a2vis/a.py", "from .samh import x", []),
        ("modeling/mask_classification/a.py", "from ..a2vis.samh import x", ["amodal2.modeling."]),
        ("modeling/__init__.py", "from .a2vis.samh import x", []),
        ("__init__.py", "from amodal2.utils import x", ["amodal2.utils.x"]),
    ],
)
def test_layer_violations_finds_what_the_table_forbids(made_up_package, name, text, expected):
    path = made_up_package(name, text)
    found = layer_violations(path)
    assert len(found) == len(expected)
    assert all(one.startswith(other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("print(1)", 1),
        ("x.cuda()", 1),
        ("import pdb", 1),
        ("from pdb import set_trace", 1),
        ("breakpoint()", 1),
        ("x.to(device)\nlogger.info(1)\ntorch.cuda.is_available()", 0),
    ],
)
def test_forbidden_calls_finds_each(text, count):
    assert len(forbidden_calls(ast.parse(text))) == count


def test_mute_checks_finds_asserts_and_raises():
    tree = ast.parse("assert a\nassert a, 'b'\nraise V()\nraise V('b')\nraise")
    assert mute_checks(tree) == [1, 3]


def test_untyped_functions_finds_arguments_and_returns():
    text = "def a(x: int) -> int: ...\ndef b(x) -> int: ...\nclass C:\n def c(self): ...\n"
    text += " def d(self, *, y) -> int: ...\n def _e(self): ..."
    assert untyped_functions(ast.parse(text)) == ["b", "c", "d"]
