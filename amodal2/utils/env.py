"""Report on the environment: versions, devices, and which path each operator takes and why.

Run it as ``python -m amodal2.utils.env``; the output belongs in every bug report.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys

import amodal2

LIBRARIES = (
    "torch",
    "torchvision",
    "detectron2",
    "numpy",
    "scipy",
    "timm",
    "av",
    "opencv-python-headless",
    "pillow",
    "pycocotools",
    "fvcore",
    "iopath",
    "safetensors",
)
VARIABLES = (
    "AMODAL2_BUILD",
    "AMODAL2_GOLDEN",
    "AMODAL2_OPS",
    "CUDA_VISIBLE_DEVICES",
    "DETECTRON2_DATASETS",
    "OMP_NUM_THREADS",
    "TORCH_CUDA_ARCH_LIST",
)


def library_versions() -> dict[str, str]:
    """Return the version of each library that matters, "not installed" where there is none."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def device_lines() -> dict[str, str]:
    """Return CPU threads, CUDA version and GPUs as torch sees them."""
    try:
        import torch
    except ImportError as e:
        return {"devices": f"unknown, torch does not import: {e}"}
    lines = {"CPU threads": str(torch.get_num_threads()), "torch CUDA": str(torch.version.cuda)}
    if not torch.cuda.is_available():
        return {**lines, "GPU": "none"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        capability = f"{properties.major}.{properties.minor}"
        lines[f"GPU {index}"] = f"{properties.name}, {capability}, {memory:.0f} GiB"
    return lines


def tool_versions() -> dict[str, str]:
    """Return the first line that says a version from the C++ compiler and from nvcc."""
    versions = {}
    for label, name in (("C++ compiler", os.environ.get("CXX", "c++")), ("nvcc", "nvcc")):
        path = shutil.which(name)
        if path is None:
            versions[label] = "none"
            continue
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if any(map(str.isdigit, line))]
        # nvcc writes its release below the copyright.
        releases = [line for line in lines if "release" in line]
        versions[label] = (releases or lines or ["version unknown"])[0].strip()
    return versions


def operator_paths() -> dict[str, str]:
    """Return, for each operator, the implementation that is used and the reason."""
    try:
        # By name, since this package imports no other one of amodal2 when it is imported.
        paths = importlib.import_module("amodal2.ops").op_paths()
    except ImportError as e:
        return {"operators": f"unknown, amodal2.ops does not import: {e}"}
    return {name: f"{path.path} ({path.reason})" for name, path in sorted(paths.items())}


def environment_report() -> str:
    """Return the whole report, one fact per line, in aligned columns."""
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    sections = {
        "versions": {
            "amodal2": amodal2.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            **library_versions(),
            **tool_versions(),
        },
        "devices": device_lines(),
        "operators": operator_paths(),
        "variables": variables or {"none": "set"},
    }
    width = max(len(name) for facts in sections.values() for name in facts)
    lines = []
    for title, facts in sections.items():
        lines.append(title)
        lines += [f"  {name:{width}}  {value}" for name, value in facts.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(environment_report() + "\n")
