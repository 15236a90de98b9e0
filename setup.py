"""Package metadata and the one extension, ``amodal2._C``.

``AMODAL2_BUILD`` chooses what is compiled: ``cuda``, ``cpu``, ``off``, or ``auto`` (the default:
the best of the three that this machine can build, with one line saying why it is not a better
one). torch is imported only when something is built, so metadata can be read without it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).resolve().parent
BUILD_COMMANDS = {"build", "build_ext", "bdist_wheel", "editable_wheel", "develop", "install"}
IN_PLACE = {"--inplace", "-i", "editable_wheel", "develop"}
DEFAULT_ARCHITECTURES = "8.0;9.0+PTX"
"""What is compiled for where no GPU is visible and ``TORCH_CUDA_ARCH_LIST`` is not set.

A CUDA source costs about 80 s of one core's time, of which 65 s go into the headers of PyTorch
(nvcc 13.0, torch 2.14.1, measured on a busy machine); one architecture alone would save 15 s of
them. Whoever needs no CUDA kernels saves all of it with ``AMODAL2_BUILD=cpu``.
"""

REQUIREMENTS = [
    "torch>=2.8",
    "torchvision>=0.23",
    "av>=14",
    "hotcoco>=1.3,<2",
    "numpy>=1.26",
    "opencv-python-headless>=4.8",
    "pillow>=10",
    "pycocotools>=2.0.8",
    "safetensors>=0.4.3",
    "scipy>=1.11",
    "timm>=1.0.9",
    # What Detectron2 imports; Detectron2 itself comes from tools/install_detectron2.py.
    "cloudpickle",
    "fvcore>=0.1.5,<0.1.6",
    "hydra-core>=1.1",
    "iopath>=0.1.7,<0.1.10",
    "matplotlib",
    "omegaconf>=2.1",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm>=4.29",
    "yacs>=0.1.8",
]
TEST_REQUIREMENTS = ["hypothesis>=6.100", "pytest>=8.2", "pytest-xdist>=3.5"]
EXTRAS = {
    # The build of PySceneDetect that needs no windows; the other one brings OpenCV with them.
    "datasets": ["scenedetect-headless>=0.7"],
    # The simulator of the playroom, without MuJoCo's viewers and what they draw with.
    "physics": ["mujoco-core>=4.0"],
    # Diffusion-VAS; amodal2/modeling/diffusion_vas/libraries.py checks these versions, too.
    "diffusion": ["accelerate>=1.0", "diffusers>=0.42", "transformers>=5.0"],
    "test": TEST_REQUIREMENTS,
    "dev": [*TEST_REQUIREMENTS, "mypy>=1.13", "pre-commit>=3.5", "ruff>=0.8"],
}


class BuildError(RuntimeError):
    """What ``AMODAL2_BUILD`` asks for cannot be built here."""


@dataclass(frozen=True)
class Machine:
    """What decides about the build; versions are ``major.minor``, None where there is none."""

    torch: str | None
    torch_cuda: str | None
    compiler: str | None
    toolkit: str | None
    cuda_sources: bool


def choose_build(request: str, machine: Machine) -> tuple[str, str]:
    """Return what to build ("cuda", "cpu" or "off") and the reason.

    Raises:
        BuildError: if the request is unknown, or explicit and not possible.
    """
    if request not in ("auto", "cpu", "cuda", "off"):
        raise BuildError(f"AMODAL2_BUILD: expected auto, cpu, cuda or off, got {request!r}")
    if request == "off":
        return "off", "AMODAL2_BUILD=off"
    no_cpu = no_cuda = None
    if machine.torch is None:
        no_cpu = "torch is not installed (use --no-build-isolation)"
    elif machine.compiler is None:
        no_cpu = "no C++ compiler found"
    if machine.torch_cuda is None:
        no_cuda = "torch is built without CUDA"
    elif machine.toolkit is None:
        no_cuda = "no CUDA toolkit found"
    elif machine.toolkit != machine.torch_cuda:
        no_cuda = f"the CUDA toolkit is {machine.toolkit}, torch needs {machine.torch_cuda}"
    missing = no_cpu if request == "cpu" else no_cpu or no_cuda
    if request != "auto":
        if missing:
            raise BuildError(f"AMODAL2_BUILD={request}: {missing}")
        return request, f"AMODAL2_BUILD={request}"
    if no_cpu:
        return "off", no_cpu
    if not machine.cuda_sources:
        return "cpu", "no operator has a CUDA source"
    if no_cuda:
        return "cpu", no_cuda
    return "cuda", f"CUDA toolkit {machine.toolkit} agrees with torch"


def find_toolkit() -> Path | None:
    """Find the CUDA toolkit: ``$CUDA_HOME``, ``$CUDA_PATH``, nvcc on the path, the usual place."""
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if named:
        return Path(named) if (Path(named) / "bin" / "nvcc").exists() else None
    nvcc = shutil.which("nvcc")
    candidates = [Path(nvcc).resolve().parent.parent] if nvcc else []
    for home in [*candidates, Path("/usr/local/cuda")]:
        if (home / "bin" / "nvcc").exists() and (home / "include" / "cuda_runtime.h").exists():
            return home
    return None


def nvcc_version(home: Path) -> str | None:
    """Return ``major.minor`` of a toolkit's compiler, None if it does not run."""
    try:
        text = subprocess.run(
            [str(home / "bin" / "nvcc"), "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"release (\d+\.\d+)", text)
    return found.group(1) if found else None


def inspect_machine(home: Path | None) -> Machine:
    """Look for torch, a C++ compiler, the version of the toolkit at ``home``, CUDA sources."""
    names = [os.environ.get("CXX", "").split(" ")[0], "c++", "g++", "clang++", "cl"]
    compiler = next((name for name in names if name and shutil.which(name)), None)
    cuda_sources = sources("cuda") != sources("cpu")
    try:
        import torch
    except ImportError:
        return Machine(None, None, compiler, None, cuda_sources)
    cuda = ".".join(torch.version.cuda.split(".")[:2]) if torch.version.cuda else None
    toolkit = nvcc_version(home) if home else None
    return Machine(torch.__version__, cuda, compiler, toolkit, cuda_sources)


def sources(kind: str) -> list[str]:
    """List the sources of a build, relative to the root and sorted."""
    suffixes = (".cpp", ".cu") if kind == "cuda" else (".cpp",)
    found = (path for path in (ROOT / "csrc").rglob("*") if path.suffix in suffixes)
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def cuda_include_dirs(home: Path, site: Path) -> list[str]:
    """List the toolkit's headers, then those of torch's wheels, which a small toolkit lacks."""
    wheels = sorted(path for path in (site / "nvidia").glob("*/include") if path.is_dir())
    return [str(path) for path in (home / "include", *wheels)]


def make_extension(kind: str, home: Path | None) -> Extension:
    """Describe ``amodal2._C`` for a "cpu" or "cuda" build."""
    import torch
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    openmp = ["-fopenmp"] if sys.platform.startswith("linux") else []
    optimise = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0"]
    if os.environ.get("CFLAGS"):  # they come first on the command line, and would lose
        optimise = []
    options = {"include_dirs": [str(ROOT / "csrc")], "extra_link_args": openmp}
    if kind == "cpu":
        flags = {"cxx": optimise + openmp}
        return CppExtension("amodal2._C", sources(kind), extra_compile_args=flags, **options)
    options["include_dirs"] += cuda_include_dirs(home, Path(torch.__file__).parent.parent)
    flags = {"cxx": optimise + openmp, "nvcc": ["-O3"]}
    return CUDAExtension(
        "amodal2._C",
        sources(kind),
        extra_compile_args=flags,
        define_macros=[("AMODAL2_WITH_CUDA", None)],
        **options,
    )


def say(kind: str, reason: str) -> None:
    """Print the one line about the build."""
    print(f"amodal2 build: {kind} ({reason})", flush=True)


def remove_extension() -> None:
    """Delete what an earlier build in place has compiled."""
    for path in (ROOT / "amodal2").glob("_C.*"):
        if path.suffix in (".so", ".pyd"):
            path.unlink()
            print(f"amodal2 build: removed {path.name}", flush=True)


def build_arguments(request: str) -> dict:
    """Return the arguments of ``setup`` that compile the extension; none if nothing is built."""
    home = find_toolkit()
    machine = inspect_machine(home)
    kind, reason = choose_build(request, machine)
    say(kind, reason)
    if request == "off" and IN_PLACE & set(sys.argv):
        remove_extension()
    if kind == "off":
        return {}
    if kind == "cuda":
        # torch.utils.cpp_extension reads it when it is imported.
        os.environ["CUDA_HOME"] = str(home)
        import torch

        if not torch.cuda.is_available():
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHITECTURES)
    from torch.utils.cpp_extension import BuildExtension

    class BuildBest(BuildExtension):
        """Step down from cuda to cpu to off when a build that ``auto`` chose does not compile."""

        def build_extensions(self) -> None:
            try:
                super().build_extensions()
            except Exception as e:
                if request != "auto":
                    raise
                (extension,) = self.extensions
                problem = str(e).strip().splitlines()[0]
                if "AMODAL2_WITH_CUDA" in dict(extension.define_macros):
                    say("cpu", f"the CUDA build failed: {problem}")
                    extension.__dict__.update(_plain(make_extension("cpu", None)))
                    self.build_extensions()
                else:
                    say("off", f"the C++ build failed: {problem}")
                    self.extensions = []

    return {"ext_modules": [make_extension(kind, home)], "cmdclass": {"build_ext": BuildBest}}


def _plain(extension: Extension) -> dict:
    """Return the public fields of an extension, without what build_ext has added to it."""
    return {key: value for key, value in vars(extension).items() if not key.startswith("_")}


def version() -> str:
    """Read the version from the package without importing it."""
    text = (ROOT / "amodal2" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'(?m)^__version__ = "(.+)"$', text).group(1)


def main() -> None:
    """Hand metadata and, for commands that build, the extension to setuptools."""
    try:
        request = os.environ.get("AMODAL2_BUILD", "auto")
        building = build_arguments(request) if BUILD_COMMANDS & set(sys.argv) else {}
    except BuildError as e:
        sys.exit(f"setup.py: {e}")
    setup(
        name="amodal2",
        version=version(),
        description="Amodal segmentation of images and videos on top of Detectron2",
        long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        python_requires=">=3.11",
        packages=[*find_packages(include=["amodal2", "amodal2.*"]), "amodal2.model_zoo.configs"],
        package_dir={"amodal2.model_zoo.configs": "configs"},
        package_data={
            "amodal2": ["py.typed"],
            "amodal2.model_zoo": ["weights/*.safetensors"],
            "amodal2.model_zoo.configs": ["**/*.yaml"],
        },
        install_requires=REQUIREMENTS,
        extras_require=EXTRAS,
        zip_safe=False,
        **building,
    )


if __name__ == "__main__":
    main()
