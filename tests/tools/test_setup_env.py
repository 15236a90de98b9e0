"""Tests of tools/setup_env.py with commands that are recorded instead of run."""

from __future__ import annotations

import json
import sys

import pytest

from tests.conftest import load_script

script = load_script("tools/setup_env.py")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A small repository, and ``run`` replaced by a recorder that can be told to fail."""
    root = tmp_path / "a repository"
    (root / "csrc").mkdir(parents=True)
    (root / "amodal2").mkdir()
    (root / "tools").mkdir()
    for name in ("constraints.txt", "setup.py", "csrc/a.cpp", "tools/install_detectron2.py"):
        (root / name).write_text(name)

    class Machine:
        def __init__(self):
            self.root, self.venv = root, tmp_path / "the environment"
            self.steps, self.fail_at = [], None

        def run(self, *command):
            words = [str(part) for part in command]
            step = next(
                name
                for name, mark in (
                    ("venv", "venv"),
                    ("detectron2", str(root / "tools" / "install_detectron2.py")),
                    ("torch", "torchvision"),
                    ("trackeval", "trackeval"),
                    ("amodal2", f"{root}[dev,diffusion,physics]"),
                )
                if mark in words
            )
            self.steps.append(step + " --force" if "--force" in words else step)
            if step == self.fail_at:
                raise script.SetupError(f"{step} failed")
            if step == "venv":
                (self.venv / "bin").mkdir()
                (self.venv / "bin" / "python").symlink_to(sys.executable)
            elif step == "amodal2":
                (root / "amodal2" / "_C.so").touch()

        def main(self):
            self.steps = []
            return script.main(["--venv", str(self.venv)])

    made = Machine()
    monkeypatch.setattr(script, "ROOT", root)
    monkeypatch.setattr(script, "run", made.run)
    return made


def test_main_twice_does_nothing_the_second_time(machine, capsys):
    assert machine.main() == 0
    assert machine.steps == ["venv", "torch", "amodal2", "detectron2", "trackeval"]
    capsys.readouterr()
    assert machine.main() == 0
    assert machine.steps == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("csrc/a.cpp", ["amodal2"]),
        ("csrc/new.cu", ["amodal2"]),
        ("setup.py", ["amodal2"]),
        ("tools/install_detectron2.py", ["detectron2 --force"]),
        ("constraints.txt", ["torch", "amodal2", "detectron2 --force", "trackeval"]),
        ("README.md", []),
    ],
)
def test_main_after_a_change_does_what_depends_on_it(machine, file, expected):
    machine.main()
    (machine.root / file).write_text("changed")
    assert machine.main() == 0
    assert machine.steps == expected


def test_main_with_another_build_switch_builds_again(machine, monkeypatch):
    machine.main()
    monkeypatch.setenv("AMODAL2_BUILD", "off")
    machine.main()
    assert machine.steps == ["amodal2"]


def test_main_without_the_built_extension_builds_again(machine):
    machine.main()
    (machine.root / "amodal2" / "_C.so").unlink()
    machine.main()
    assert machine.steps == ["amodal2"]


@pytest.mark.parametrize("step", ["venv", "torch", "amodal2", "detectron2", "trackeval"])
def test_main_first_failure_leaves_no_environment(machine, step, capsys):
    machine.fail_at = step
    assert machine.main() == 1
    assert capsys.readouterr().err == f"setup: {step} failed\n"
    assert not machine.venv.exists()


def test_main_later_failure_keeps_the_environment_and_tries_again(machine):
    machine.main()
    (machine.root / "csrc" / "a.cpp").write_text("does not compile")
    machine.fail_at = "amodal2"
    assert machine.main() == 1
    assert machine.venv.exists()
    machine.fail_at = None
    assert machine.main() == 0
    assert machine.steps == ["amodal2"]


def test_main_after_a_kill_starts_afresh(machine):
    machine.main()
    record = machine.venv / script.RECORD
    record.write_text(json.dumps({"created": True, "complete": False, "keys": {}}))
    (machine.venv / "half-installed").touch()
    assert machine.main() == 0
    assert machine.steps == ["venv", "torch", "amodal2", "detectron2", "trackeval"]
    assert not (machine.venv / "half-installed").exists()


def test_main_with_a_broken_interpreter_starts_afresh(machine):
    machine.main()
    (machine.venv / "bin" / "python").unlink()
    machine.main()
    assert machine.steps[0] == "venv"


def test_main_with_a_given_environment_never_removes_it(machine):
    (machine.venv / "bin").mkdir(parents=True)
    (machine.venv / "bin" / "python").symlink_to(sys.executable)
    machine.fail_at = "torch"
    assert machine.main() == 1
    assert machine.steps == ["torch"]
    assert (machine.venv / "bin" / "python").exists()


def test_main_with_another_folder_refuses_it(machine, capsys):
    machine.venv.mkdir()
    (machine.venv / "thesis.tex").touch()
    assert machine.main() == 1
    assert "expected VENV to be an environment or absent, got" in capsys.readouterr().err
    assert (machine.venv / "thesis.tex").exists()


def test_main_without_the_venv_module_says_how_to_get_it(machine, monkeypatch, capsys):
    real = script.importlib.util.find_spec
    absent = lambda name: None if name == "ensurepip" else real(name)  # noqa: E731
    monkeypatch.setattr(script.importlib.util, "find_spec", absent)
    assert machine.main() == 1
    assert "python3-venv" in capsys.readouterr().err
    assert not machine.venv.exists()


def test_main_with_an_old_python_says_so(machine, monkeypatch, capsys):
    monkeypatch.setattr(script.sys, "version_info", (3, 9, 1))
    assert machine.main() == 1
    assert capsys.readouterr().err == "setup: expected Python 3.11 or later, got 3.9.1\n"


def test_run_shows_only_the_line_about_the_build(capfd):
    code = "print('noise'); print('  amodal2 build: cpu (no CUDA toolkit found)')"
    script.run(sys.executable, "-c", code)
    assert capfd.readouterr().out == "amodal2 build: cpu (no CUDA toolkit found)\n"


def test_run_failure_shows_the_last_lines(capfd):
    with pytest.raises(script.SetupError, match="got status 3"):
        script.run(sys.executable, "-c", "print('the cause'); raise SystemExit(3)")
    assert "the cause" in capfd.readouterr().err
