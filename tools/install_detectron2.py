#!/usr/bin/env python3
"""Install Detectron2 into the environment of the running interpreter.

Upstream's git repository is built if it answers within seconds. Otherwise, or if that build fails,
the source distribution ``detectron2-cdo`` 0.5 is taken: upstream v0.5 without its C++ sources. Its
hash is checked, a few lines are rewritten for current numpy, Pillow and setuptools, and it is
installed as ``detectron2`` under a setup script of our own. Needs pip, setuptools and torch.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

UPSTREAM = "https://github.com/facebookresearch/detectron2"
REPOSITORY_VARIABLE = "AMODAL2_DETECTRON2_REPOSITORY"
SDIST = "detectron2-cdo==0.5"
SDIST_SHA256 = "53c9e79e9cc943e80419c588ea44b5479507a8628ed14a4e06bd093e29311b18"
REWRITES_VERSION = 1
"""Raise it with every change of what is written into the installed package."""

MARKER = "_amodal2_install.py"
MARKER_TEXT = '''"""How Detectron2 came into this environment."""

SOURCE = "{source}"
REWRITES = {rewrites}


class _NoExtension:
    def __getattr__(self, name):
        raise ImportError(
            f"detectron2._C.{{name}}: expected the compiled extension, got a Detectron2 without; "
            "install it from its git repository"
        )


NO_EXTENSION = _NoExtension()
'''
SETUP_TEXT = """from setuptools import find_packages, setup

PROJECTS = {
    "detectron2.projects.point_rend": "projects/PointRend/point_rend",
    "detectron2.projects.deeplab": "projects/DeepLab/deeplab",
    "detectron2.projects.panoptic_deeplab": "projects/Panoptic-DeepLab/panoptic_deeplab",
}
setup(
    name="detectron2",
    version="0.5",
    packages=find_packages(include=["detectron2", "detectron2.*"]) + list(PROJECTS),
    package_dir=PROJECTS,
    package_data={"detectron2.model_zoo": ["configs/**/*.yaml", "configs/**/*.py"]},
    install_requires=["fvcore>=0.1.5,<0.1.6", "iopath>=0.1.7,<0.1.10"],
)
"""
CHECK = """
import detectron2.data, detectron2.engine, detectron2.evaluation, detectron2.modeling
from detectron2 import model_zoo
model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
"""


class InstallError(RuntimeError):
    """Detectron2 could not be installed; nothing is left behind."""


@dataclass(frozen=True)
class Rewrite:
    """A regular expression that must match a file ``count`` times, and what replaces it."""

    path: str
    pattern: str
    replacement: str
    count: int = 1


OPTIONAL_EXTENSION = (
    r"(?m)^from detectron2 import _C$",
    "try:\n    from detectron2 import _C\nexcept ImportError:\n"
    "    from detectron2._amodal2_install import NO_EXTENSION as _C",
)
NUMPY_ALIAS = (r"\bnp\.(bool|int|float|str|object)\b", r"\1")

REWRITES = (
    Rewrite("detectron2/layers/deform_conv.py", *OPTIONAL_EXTENSION),
    Rewrite("detectron2/layers/roi_align_rotated.py", *OPTIONAL_EXTENSION),
    Rewrite("detectron2/layers/rotated_boxes.py", *OPTIONAL_EXTENSION),
    Rewrite("detectron2/evaluation/fast_eval_api.py", *OPTIONAL_EXTENSION),
    Rewrite(
        "detectron2/evaluation/fast_eval_api.py",
        r"\n+\Z",
        '\n\n\nif type(_C).__name__ == "_NoExtension":\n    COCOeval_opt = COCOeval\n',
    ),
    Rewrite("detectron2/evaluation/pascal_voc_evaluation.py", *NUMPY_ALIAS, count=2),
    Rewrite("detectron2/evaluation/sem_seg_evaluation.py", *NUMPY_ALIAS, count=7),
    Rewrite("detectron2/structures/masks.py", *NUMPY_ALIAS, count=2),
    Rewrite("detectron2/data/datasets/pascal_voc.py", *NUMPY_ALIAS),
    Rewrite("detectron2/data/build.py", *NUMPY_ALIAS, count=2),
    Rewrite("detectron2/utils/visualizer.py", *NUMPY_ALIAS, count=3),
    Rewrite("detectron2/utils/video_visualizer.py", *NUMPY_ALIAS),
    Rewrite("detectron2/data/transforms/transform.py", r"\bImage\.LINEAR\b", "Image.BILINEAR"),
    Rewrite("detectron2/model_zoo/model_zoo.py", r"(?m)^import pkg_resources\n", ""),
    Rewrite(
        "detectron2/model_zoo/model_zoo.py",
        r'pkg_resources\.resource_filename\(\s*"detectron2\.model_zoo", '
        r'os\.path\.join\("configs", config_path\)\s*\)',
        'os.path.join(os.path.dirname(__file__), "configs", config_path)',
    ),
)


def apply_rewrites(root: Path, rewrites: tuple[Rewrite, ...] = REWRITES) -> None:
    """Rewrite the unpacked source distribution below ``root`` in place.

    Raises:
        InstallError: if a file is absent or a pattern does not match exactly as often as stated.
    """
    for rewrite in rewrites:
        file = root / rewrite.path
        if not file.is_file():
            raise InstallError(f"apply_rewrites: expected a file {rewrite.path}, got none")
        text = file.read_text(encoding="utf-8")
        text, count = re.subn(rewrite.pattern, rewrite.replacement, text)
        if count != rewrite.count:
            raise InstallError(
                f"apply_rewrites: expected {rewrite.count} match(es) of {rewrite.pattern!r} in "
                f"{rewrite.path}, got {count}"
            )
        file.write_text(text, encoding="utf-8")


def installed() -> str | None:
    """Say which Detectron2 this environment holds; None if none, or one with older rewrites."""
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:
        return None
    try:
        version = importlib.metadata.version("detectron2")
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"
    marker = Path(spec.origin).with_name(MARKER)
    if not marker.is_file():
        return f"{version} (installed by other means, kept)"
    scope: dict[str, object] = {}
    exec(marker.read_text(encoding="utf-8"), scope)
    if scope["SOURCE"] == "sdist" and scope["REWRITES"] != REWRITES_VERSION:
        return None
    return f"{version} (from the {scope['SOURCE']})"


def run(command: list[str], *, timeout: float | None = None, cwd: Path | None = None) -> str:
    """Run a command quietly and return what it printed.

    Raises:
        InstallError: if it is absent, fails or takes too long; with the last lines it printed.
    """
    name = " ".join(Path(part).name for part in command[:4])
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as e:
        raise InstallError(f"run: expected the program '{command[0]}', got none") from e
    except subprocess.TimeoutExpired as e:
        raise InstallError(f"run: expected '{name}' to end in {timeout:.0f} s, got none") from e
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise InstallError(
            f"run: expected '{name}' to succeed, got status {done.returncode}\n{tail}"
        )
    return done.stdout


def pip(*arguments: str, cwd: Path | None = None) -> None:
    """Run this interpreter's pip."""
    run([sys.executable, "-m", "pip", *arguments], cwd=cwd)


def reachable(repository: str, seconds: float = 6.0) -> bool:
    """Say whether a git repository answers within some seconds."""
    try:
        run(["git", "ls-remote", "--exit-code", repository, "HEAD"], timeout=seconds)
    except InstallError:
        return False
    return True


def fetch_sdist(folder: Path, local: Path | None) -> Path:
    """Download the source distribution with pip, or take a local file, and check its hash.

    pip checks the hash too, before it runs any code of the archive.
    """
    if local is None:
        wanted = folder / "requirement.txt"
        wanted.write_text(f"{SDIST} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
        options = ["--no-deps", "--no-build-isolation", "--no-binary=detectron2-cdo"]
        options += ["--require-hashes", f"--requirement={wanted}", f"--dest={folder}"]
        pip("download", "--quiet", *options)
        local = next(folder.glob("detectron2*.tar.gz"), None)
        if local is None:
            raise InstallError(f"fetch_sdist: expected an archive of {SDIST}, got none from pip")
    if not local.is_file():
        raise InstallError(f"fetch_sdist: expected a file, got {local}")
    digest = hashlib.sha256(local.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        raise InstallError(f"fetch_sdist: expected sha256 {SDIST_SHA256}, got {digest} for {local}")
    return local


def unpack_sdist(archive: Path, folder: Path) -> Path:
    """Unpack the source distribution, rewrite it and put our setup script into it."""
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **safely)
    root = next(path for path in folder.iterdir() if (path / "detectron2").is_dir())
    apply_rewrites(root)
    (root / "setup.py").write_text(SETUP_TEXT, encoding="utf-8")
    (root / "setup.cfg").unlink(missing_ok=True)
    return root


def clone_upstream(repository: str, folder: Path) -> Path:
    """Clone upstream's newest state without the ``tools`` that it would install at top level."""
    root = folder / "detectron2"
    run(["git", "clone", "--quiet", "--depth", "1", repository, str(root)], timeout=600)
    (root / "tools" / "__init__.py").unlink(missing_ok=True)
    if not (root / "detectron2").is_dir():
        raise InstallError(
            f"clone_upstream: expected a package detectron2 in {repository}, got none"
        )
    return root


def install_tree(root: Path, source: str) -> None:
    """Install an unpacked tree and import it; a tree that does not import is removed again."""
    marker = MARKER_TEXT.format(source=source, rewrites=REWRITES_VERSION)
    (root / "detectron2" / MARKER).write_text(marker, encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--force-reinstall"]
    pip("install", *options, str(root), cwd=root.parent)
    try:
        run([sys.executable, "-c", CHECK], cwd=root.parent)
    except InstallError:
        pip("uninstall", "--quiet", "--yes", "detectron2")
        raise


def check_environment() -> None:
    """Raise an InstallError if torch is absent or setuptools too old or too new for the build."""
    if importlib.util.find_spec("torch") is None:
        raise InstallError("check_environment: expected torch, got none; pip install it first")
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    if not 77 <= int(version.split(".")[0]) < 81:
        raise InstallError(
            f"check_environment: expected setuptools>=77,<81, got {version}; "
            "pip install 'setuptools>=77,<81'"
        )


def install(source: str, repository: str, sdist: Path | None) -> None:
    """Install from the first of the allowed sources that works."""
    check_environment()
    if source == "auto":
        source = "git" if sdist is None and reachable(repository) else "sdist"
        fallback = source == "git"
    else:
        fallback = False
    with tempfile.TemporaryDirectory(prefix="detectron2-") as name:
        folder = Path(name)
        if source == "git":
            try:
                print(f"building Detectron2 from {repository} (takes minutes)", flush=True)
                install_tree(clone_upstream(repository, folder), "git repository")
                return
            except InstallError as e:
                if not fallback:
                    raise
                print(f"{e}\nfalling back to {SDIST}", file=sys.stderr, flush=True)
        print(f"installing Detectron2 from {SDIST}", flush=True)
        inside = folder / "sdist"
        inside.mkdir()
        install_tree(unpack_sdist(fetch_sdist(inside, sdist), inside), "sdist")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, install unless already done, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", choices=("auto", "git", "sdist"), default="auto")
    parser.add_argument(
        "--repository",
        default=os.environ.get(REPOSITORY_VARIABLE) or UPSTREAM,
        help=f"git repository (default: ${REPOSITORY_VARIABLE}, else upstream's)",
    )
    parser.add_argument("--sdist", type=Path, help=f"local archive of {SDIST}, instead of pip's")
    parser.add_argument("--force", action="store_true", help="install even if it is there already")
    arguments = parser.parse_args(argv)
    try:
        if arguments.force or installed() is None:
            install(arguments.source, arguments.repository, arguments.sdist)
        print(f"Detectron2 {installed()} is installed")
    except InstallError as e:
        print(f"install_detectron2.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
