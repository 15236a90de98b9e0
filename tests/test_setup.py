"""Tests of what setup.py decides to build; nothing is compiled here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.conftest import REPOSITORY, load_script

script = load_script("setup.py")
FULL = script.Machine(
    torch="2.14.1", torch_cuda="13.0", compiler="c++", toolkit="13.0", cuda_sources=True
)
NO_TORCH = replace(FULL, torch=None, torch_cuda=None, toolkit=None)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (FULL, ("cuda", "CUDA toolkit 13.0 agrees with torch")),
        (replace(FULL, toolkit="13.2"), ("cpu", "the CUDA toolkit is 13.2, torch needs 13.0")),
        (replace(FULL, toolkit=None), ("cpu", "no CUDA toolkit found")),
        (replace(FULL, torch_cuda=None), ("cpu", "torch is built without CUDA")),
        (replace(FULL, cuda_sources=False), ("cpu", "no operator has a CUDA source")),
        (replace(FULL, compiler=None), ("off", "no C++ compiler found")),
        (NO_TORCH, ("off", "torch is not installed (use --no-build-isolation)")),
    ],
)
def test_choose_build_auto_takes_the_best_and_says_why(machine, expected):
    assert script.choose_build("auto", machine) == expected


@pytest.mark.parametrize("request_", ["cpu", "cuda", "off"])
def test_choose_build_explicit_is_obeyed(request_):
    assert script.choose_build(request_, FULL) == (request_, f"AMODAL2_BUILD={request_}")


def test_choose_build_off_needs_nothing():
    assert script.choose_build("off", replace(NO_TORCH, compiler=None))[0] == "off"


@pytest.mark.parametrize(
    ("request_", "machine", "message"),
    [
        ("gpu", FULL, "expected auto, cpu, cuda or off, got 'gpu'"),
        ("cpu", NO_TORCH, "AMODAL2_BUILD=cpu: torch is not installed"),
        ("cpu", replace(FULL, compiler=None), "AMODAL2_BUILD=cpu: no C\\+\\+ compiler"),
        ("cuda", replace(FULL, compiler=None), "AMODAL2_BUILD=cuda: no C\\+\\+ compiler"),
        ("cuda", replace(FULL, toolkit="12.8"), "AMODAL2_BUILD=cuda: the CUDA toolkit is 12.8"),
    ],
)
def test_choose_build_explicit_and_impossible_raises(request_, machine, message):
    with pytest.raises(script.BuildError, match=message):
        script.choose_build(request_, machine)


def make_toolkit(home, release="13.0"):
    (home / "bin").mkdir(parents=True)
    (home / "include").mkdir()
    (home / "include" / "cuda_runtime.h").touch()
    nvcc = home / "bin" / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.88'\n")
    nvcc.chmod(0o755)
    return home


def test_find_toolkit_named_by_the_environment_is_taken(tmp_path, monkeypatch):
    home = make_toolkit(tmp_path / "cuda 13")
    monkeypatch.setenv("CUDA_HOME", str(home))
    assert script.find_toolkit() == home
    assert script.nvcc_version(home) == "13.0"


def test_find_toolkit_named_and_absent_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert script.find_toolkit() is None


def test_find_toolkit_on_the_path_follows_links(tmp_path, monkeypatch):
    home = make_toolkit(tmp_path / "cuda")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").symlink_to(home / "bin" / "nvcc")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert script.find_toolkit() == home


def test_nvcc_version_of_a_broken_compiler_is_none(tmp_path):
    assert script.nvcc_version(tmp_path) is None


def test_sources_are_relative_sorted_and_chosen_by_kind():
    cpu, cuda = script.sources("cpu"), script.sources("cuda")
    assert "csrc/module.cpp" in cpu
    assert cpu == sorted(cpu)
    assert cuda == sorted(cuda)
    assert {path.rsplit(".", 1)[1] for path in cpu} == {"cpp"}
    assert set(cpu) <= set(cuda)
    assert all((REPOSITORY / path).is_file() for path in cuda)


def test_inspect_machine_knows_whether_there_are_cuda_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(script, "ROOT", tmp_path)
    (tmp_path / "csrc" / "op").mkdir(parents=True)
    (tmp_path / "csrc" / "op" / "op.cpp").touch()
    assert not script.inspect_machine(None).cuda_sources
    (tmp_path / "csrc" / "op" / "op.cu").touch()
    assert script.inspect_machine(None).cuda_sources


def test_cuda_include_dirs_puts_the_toolkit_first(tmp_path):
    for name in ("cu13", "cudnn"):
        (tmp_path / "nvidia" / name / "include").mkdir(parents=True)
    wheels = [str(tmp_path / "nvidia" / name / "include") for name in ("cu13", "cudnn")]
    home = tmp_path / "cuda"
    assert script.cuda_include_dirs(home, tmp_path) == [str(home / "include"), *wheels]


@pytest.mark.parametrize(("flags", "optimised"), [("", True), ("-O1 -fsanitize=address", False)])
def test_make_extension_leaves_optimisation_to_given_flags(monkeypatch, flags, optimised):
    monkeypatch.setenv("CFLAGS", flags)
    arguments = script.make_extension("cpu", None).extra_compile_args["cxx"]
    assert ("-O3" in arguments) is optimised


def test_requirements_never_name_detectron2():
    every = [*script.REQUIREMENTS, *(name for names in script.EXTRAS.values() for name in names)]
    assert not any(name.startswith("detectron2") for name in every)


def test_constraints_pin_torch_and_torchvision_once():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = [line.split("==")[0] for line in lines if "==" in line]
    assert {"torch", "torchvision"} <= set(pinned)
    assert len(pinned) == len(set(pinned))


def run_setup(*arguments, folder=REPOSITORY, **variables):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_metadata_is_read_without_torch():
    code = "import sys, runpy; sys.modules['torch'] = None; sys.argv = ['setup.py', '--version']\n"
    done = run_setup("-c", code + "runpy.run_path('setup.py', run_name='__main__')")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == script.version()


def test_unknown_build_stops_in_one_line(tmp_path):
    arguments = ["setup.py", "build", "--build-base", str(tmp_path)]
    done = run_setup(*arguments, AMODAL2_BUILD="gpu")
    assert done.returncode == 1
    assert done.stderr == "setup.py: AMODAL2_BUILD: expected auto, cpu, cuda or off, got 'gpu'\n"


def test_build_off_says_so_and_packs_the_configs(tmp_path):
    arguments = ["setup.py", "-q", "egg_info", "-e", str(tmp_path), "build", "-b", str(tmp_path)]
    done = run_setup(*arguments, AMODAL2_BUILD="off")
    assert done.returncode == 0, done.stderr
    assert "amodal2 build: off (AMODAL2_BUILD=off)" in done.stdout
    built = tmp_path / "lib" / "amodal2"
    configs = {
        path.relative_to(REPOSITORY / "configs") for path in REPOSITORY.glob("configs/**/*.yaml")
    }
    assert configs
    assert {
        path.relative_to(built / "model_zoo" / "configs") for path in built.rglob("*.yaml")
    } == configs
    assert (built / "py.typed").is_file()
    assert not list(built.glob("_C*"))


@pytest.mark.parametrize(
    ("command", "removed"), [(("build_ext", "--inplace"), True), (("build_ext",), False)]
)
def test_build_off_in_place_removes_the_old_extension(tmp_path, command, removed):
    for name in ("setup.py", "README.md", "amodal2/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "configs").mkdir()
    old = tmp_path / "amodal2" / "_C.cpython-311-x86_64-linux-gnu.so"
    old.touch()
    done = run_setup("setup.py", "-q", *command, folder=tmp_path, AMODAL2_BUILD="off")
    assert done.returncode == 0, done.stderr
    assert old.exists() is not removed
    assert (f"removed {old.name}" in done.stdout) is removed
