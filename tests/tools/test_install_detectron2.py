"""Tests of tools/install_detectron2.py; none of them touches the installed Detectron2."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, load_script

script = load_script("tools/install_detectron2.py")
SCRIPT = REPOSITORY / "tools" / "install_detectron2.py"
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(*arguments, cwd):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def upstream(tmp_path):
    """A bare repository with a small package ``detectron2`` that passes the import check."""
    work = tmp_path / "work"
    modules = ("data", "engine", "evaluation", "modeling")
    files = {f"detectron2/{name}.py": "" for name in modules} | {
        "detectron2/__init__.py": "__version__ = '0.6'\n",
        "detectron2/model_zoo.py": "def get_config(name): return {}\n",
        "tools/__init__.py": "",
        "setup.py": "from setuptools import find_packages, setup\n"
        "setup(name='detectron2', version='0.6', packages=find_packages())\n",
    }
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    git("init", "--quiet", cwd=work)
    git("add", ".", cwd=work)
    git("commit", "--quiet", "-m", "all", cwd=work)
    git(
        "clone", "--quiet", "--bare", str(work), str(tmp_path / "bare repository.git"), cwd=tmp_path
    )
    return (tmp_path / "bare repository.git").as_uri()


@pytest.fixture
def run_script(tmp_path):
    """Run the script with pip installing into an empty folder that precedes the real packages."""
    site = tmp_path / "site packages"
    site.mkdir()

    def run(*arguments, **variables):
        environment = {**os.environ, "PIP_TARGET": str(site), "PYTHONPATH": str(site), **variables}
        return subprocess.run(
            [sys.executable, str(SCRIPT), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run, site


@needs_git
def test_main_with_a_reachable_repository_installs_from_it_once(upstream, run_script):
    run, site = run_script
    done = run("--force", AMODAL2_DETECTRON2_REPOSITORY=upstream)
    assert done.returncode == 0, done.stderr
    assert "Detectron2 0.6 (from the git repository) is installed" in done.stdout
    assert (site / "detectron2" / script.MARKER).is_file()
    assert not (site / "tools").exists()
    again = run(AMODAL2_DETECTRON2_REPOSITORY="file:///nowhere")
    assert again.returncode == 0
    assert again.stdout == "Detectron2 0.6 (from the git repository) is installed\n"


@needs_git
def test_main_with_an_unreachable_repository_fails_in_one_line(run_script):
    run, site = run_script
    done = run("--force", "--source", "git", "--repository", "file:///nowhere")
    assert done.returncode == 1
    assert "install_detectron2.py: run: expected 'git clone" in done.stderr
    assert list(site.iterdir()) == []


@needs_git
def test_reachable_tells_repositories_apart(upstream):
    assert script.reachable(upstream)
    assert not script.reachable("file:///nowhere")


def test_main_with_a_wrong_archive_names_both_hashes(run_script, tmp_path):
    run, site = run_script
    archive = tmp_path / "detectron2_cdo-0.5.tar.gz"
    archive.write_bytes(b"not the archive")
    done = run("--force", "--sdist", str(archive))
    assert done.returncode == 1
    assert re.search(rf"expected sha256 {script.SDIST_SHA256}, got [0-9a-f]{{64}}", done.stderr)
    assert list(site.iterdir()) == []


def test_fetch_sdist_without_the_file_raises(tmp_path):
    with pytest.raises(script.InstallError, match="expected a file, got"):
        script.fetch_sdist(tmp_path, tmp_path / "absent.tar.gz")


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """Replace what downloads and installs; return the list of installed sources."""
    calls = []
    monkeypatch.setattr(script, "clone_upstream", lambda repository, folder: folder)
    monkeypatch.setattr(script, "fetch_sdist", lambda folder, local: folder)
    monkeypatch.setattr(script, "unpack_sdist", lambda archive, folder: folder)
    monkeypatch.setattr(script, "install_tree", lambda root, source: calls.append(source))
    return calls


@pytest.mark.parametrize(("answers", "expected"), [(True, "git repository"), (False, "sdist")])
def test_install_auto_takes_the_repository_if_it_answers(monkeypatch, recorded, answers, expected):
    monkeypatch.setattr(script, "reachable", lambda repository: answers)
    script.install("auto", "some repository", None)
    assert recorded == [expected]


def failing_build(root, source):
    if source == "git repository":
        raise script.InstallError("it does not compile")


def test_install_auto_falls_back_when_the_repository_does_not_build(monkeypatch, recorded, capsys):
    monkeypatch.setattr(script, "reachable", lambda repository: True)
    monkeypatch.setattr(script, "install_tree", failing_build)
    script.install("auto", "some repository", None)
    assert "it does not compile\nfalling back" in capsys.readouterr().err


def test_install_git_does_not_fall_back(monkeypatch, recorded):
    monkeypatch.setattr(script, "install_tree", failing_build)
    with pytest.raises(script.InstallError, match="it does not compile"):
        script.install("git", "some repository", None)


def test_install_tree_that_does_not_import_is_removed_again(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(script, "pip", lambda *arguments, cwd=None: calls.append(arguments[0]))
    monkeypatch.setattr(script, "CHECK", "raise SystemExit('broken numpy')")
    (tmp_path / "detectron2").mkdir()
    with pytest.raises(script.InstallError, match="broken numpy"):
        script.install_tree(tmp_path, "sdist")
    assert calls == ["install", "uninstall"]


@pytest.mark.parametrize("version", ["76.1.0", "81.0.0", "100"])
def test_check_environment_with_other_setuptools_raises(monkeypatch, version):
    monkeypatch.setattr(script.importlib.metadata, "version", lambda name: version)
    with pytest.raises(script.InstallError, match=f"setuptools>=77,<81, got {version}"):
        script.check_environment()


def test_run_that_takes_too_long_raises():
    with pytest.raises(script.InstallError, match=r"to end in 0 s"):
        script.run([sys.executable, "-c", "import time; time.sleep(30)"], timeout=0.2)


BEFORE_AND_AFTER = {
    "_C": (
        "import torch\nfrom detectron2 import _C\n",
        "import torch\ntry:\n    from detectron2 import _C\nexcept ImportError:\n"
        "    from detectron2._amodal2_install import NO_EXTENSION as _C\n",
    ),
    "np.": (
        "a = np.zeros(3, dtype=np.bool).astype(np.int)\nb = np.int64(np.float32(np.bool_(1)))\n",
        "a = np.zeros(3, dtype=bool).astype(int)\nb = np.int64(np.float32(np.bool_(1)))\n",
    ),
    "LINEAR": ("i = Image.LINEAR, Image.BILINEAR\n", "i = Image.BILINEAR, Image.BILINEAR\n"),
    "resource_filename": (
        'f = pkg_resources.resource_filename(\n    "detectron2.model_zoo", '
        'os.path.join("configs", config_path)\n)\n',
        'f = os.path.join(os.path.dirname(__file__), "configs", config_path)\n',
    ),
    "import pkg_resources": ("import os\nimport pkg_resources\nx = 1\n", "import os\nx = 1\n"),
    "COCOeval_opt": (
        "class COCOeval_opt(COCOeval):\n    pass\n",
        "class COCOeval_opt(COCOeval):\n    pass\n\n\n"
        'if type(_C).__name__ == "_NoExtension":\n    COCOeval_opt = COCOeval\n',
    ),
}


def kind_of(rewrite):
    if rewrite.pattern == script.NUMPY_ALIAS[0]:
        return "np."
    text = rewrite.pattern.replace("\\", "") + rewrite.replacement
    order = ("COCOeval_opt", "resource_filename", "import pkg_resources", "LINEAR", "_C")
    return next(kind for kind in order if kind in text)


@pytest.mark.parametrize("rewrite", script.REWRITES, ids=lambda one: f"{one.path}-{kind_of(one)}")
def test_apply_rewrites_changes_what_it_should(tmp_path, rewrite):
    before, after = BEFORE_AND_AFTER[kind_of(rewrite)]
    file = tmp_path / rewrite.path
    file.parent.mkdir(parents=True)
    file.write_text(before)
    count = len(re.findall(rewrite.pattern, before))
    once = script.Rewrite(rewrite.path, rewrite.pattern, rewrite.replacement, count)
    script.apply_rewrites(tmp_path, (once,))
    assert file.read_text() == after


def test_apply_rewrites_without_a_match_names_the_file(tmp_path):
    (tmp_path / "a.py").write_text("nothing here\n")
    with pytest.raises(script.InstallError, match=r"expected 1 match\(es\) of 'np' in a.py, got 0"):
        script.apply_rewrites(tmp_path, (script.Rewrite("a.py", "np", ""),))


def test_apply_rewrites_without_the_file_names_it(tmp_path):
    with pytest.raises(script.InstallError, match=r"expected a file a\.py, got none"):
        script.apply_rewrites(tmp_path, (script.Rewrite("a.py", "np", ""),))


def test_marker_without_the_extension_says_which_op_is_missing():
    scope = {}
    exec(script.MARKER_TEXT.format(source="sdist", rewrites=1), scope)
    with pytest.raises(ImportError, match=r"detectron2\._C\.nms_rotated: expected the compiled"):
        _ = scope["NO_EXTENSION"].nms_rotated


def fake_detectron2(folder, source, rewrites):
    package = folder / "detectron2"
    package.mkdir()
    (package / "__init__.py").write_text("")
    if source is not None:
        text = script.MARKER_TEXT.format(source=source, rewrites=rewrites)
        (package / script.MARKER).write_text(text)


@pytest.mark.parametrize(
    ("source", "rewrites", "kept"),
    [
        ("sdist", script.REWRITES_VERSION, True),
        ("sdist", script.REWRITES_VERSION - 1, False),
        ("git repository", script.REWRITES_VERSION - 1, True),
        (None, None, True),
    ],
)
def test_installed_asks_for_a_new_installation_only_after_new_rewrites(
    tmp_path, monkeypatch, source, rewrites, kept
):
    fake_detectron2(tmp_path, source, rewrites)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)
    assert (script.installed() is not None) == kept


@pytest.mark.network
def test_unpack_sdist_of_the_published_archive_applies_every_rewrite(tmp_path):
    root = script.unpack_sdist(script.fetch_sdist(tmp_path, None), tmp_path)
    assert 'name="detectron2"' in (root / "setup.py").read_text()
