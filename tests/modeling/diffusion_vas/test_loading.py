"""Folders in the official layout, whole and damaged ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers", reason="needs the extra 'diffusion'")

from amodal2.modeling.diffusion_vas import libraries
from amodal2.modeling.diffusion_vas.loading import build_pipeline, load_pipeline
from amodal2.modeling.diffusion_vas.settings import SamplerSettings
from amodal2.utils.errors import CheckpointError, MissingDependencyError

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Save a tiny model as the official code does."""
    folder = tmp_path_factory.mktemp("official") / "model"
    pipeline = build_pipeline("tiny")
    pipeline.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["models.diffusion_vas.unet_diffusion_vas", "UNetSpatioTemporalConditionModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    config = json.loads((folder / "unet/config.json").read_text())
    del config["num_conditions"]
    config["_class_name"] = "UNetSpatioTemporalConditionModel"
    (folder / "unet/config.json").write_text(json.dumps(config))
    return folder, pipeline


@pytest.fixture
def copied(saved: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved[0], tmp_path / "model"))


def sample(pipeline: Any) -> torch.Tensor:
    video = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    generator = torch.Generator().manual_seed(1)
    return pipeline([video, video.flip(0)], [generator], SamplerSettings(steps=1))


def test_load_pipeline_official_folder_gives_the_same_video(saved: tuple[Path, Any]) -> None:
    folder, pipeline = saved
    pipeline.set_progress_bar_config(disable=True)
    torch.testing.assert_close(sample(load_pipeline(folder)), sample(pipeline))


def test_load_pipeline_only_half_precision_is_found(copied: Path) -> None:
    for path in [*copied.rglob("*.safetensors")]:
        half = {key: value.half() for key, value in load_file(path).items()}
        save_file(half, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    pipeline = load_pipeline(copied)
    parts = (pipeline.unet, pipeline.vae, pipeline.image_encoder)
    assert all(part.dtype == torch.float16 for part in parts)
    assert load_pipeline(copied, dtype=torch.float32).unet.dtype == torch.float32


def test_load_pipeline_svd_is_widened_with_zeros(copied: Path, saved: tuple[Path, Any]) -> None:
    state = load_file(copied / UNET)
    stock = {key: value for key, value in state.items() if not key.startswith("conv_in2")}
    save_file(stock, copied / UNET, metadata={"format": "pt"})
    unet = load_pipeline(copied, num_conditions=3).unet
    assert unet.conv_in2.weight.shape[1] == 16
    assert torch.equal(unet.conv_in2.weight[:, :8], state["conv_in.weight"])
    assert not unet.conv_in2.weight[:, 8:].any()
    assert torch.equal(unet.conv_in2.bias, state["conv_in.bias"])
    assert unet.config.num_conditions == 3
    del saved


def test_load_pipeline_second_stage_starts_from_the_first(tmp_path: Path) -> None:
    first = build_pipeline("tiny", num_conditions=1)
    first.save_pretrained(tmp_path / "first")
    second = load_pipeline(tmp_path / "first", num_conditions=2).unet
    assert torch.equal(second.conv_in2.weight[:, :8], first.unet.conv_in2.weight)
    assert not second.conv_in2.weight[:, 8:].any()
    with pytest.raises(CheckpointError, match="at most 4 input"):
        load_pipeline(tmp_path / "first", num_conditions=0)


def test_load_pipeline_half_downloaded_names_every_problem(copied: Path) -> None:
    shutil.rmtree(copied / "vae")
    whole = (copied / UNET).read_bytes()
    (copied / UNET).write_bytes(whole[: len(whole) // 2])
    (copied / "image_encoder/model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\n"
    )
    (copied / "scheduler/scheduler_config.json").write_text("{")
    with pytest.raises(CheckpointError) as caught:
        load_pipeline(copied)
    message = str(caught.value)
    for part in (
        "no vae/config.json",
        "no vae/diffusion_pytorch_model.safetensors",
        f"cut off at {len(whole) // 2} of {len(whole)} bytes",
        "git lfs pull",
        "scheduler_config.json is no JSON",
        "hf download",
    ):
        assert part in message


def test_load_pipeline_cut_off_anywhere_is_refused(copied: Path) -> None:
    whole = (copied / UNET).read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        (copied / UNET).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"cut off at {length} "):
            load_pipeline(copied)
    (copied / UNET).write_bytes(b"<!doctype html>" + b" " * 5000)
    with pytest.raises(CheckpointError, match="diffusion_pytorch_model"):
        load_pipeline(copied)


def test_load_pipeline_no_folder_and_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="which is neither"):
        load_pipeline(tmp_path / "absent")


def test_load_pipeline_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(CheckpointError, match="hf download kaihuac/model --local-dir"):
        load_pipeline("kaihuac/model")


def test_require_libraries_old_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.__version__", "0.29.1")
    with pytest.raises(MissingDependencyError, match=r"diffusers 0.42 or later, got 0.29.1; pip"):
        libraries.require_libraries()


def test_build_pipeline_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*'svd'"):
        build_pipeline("huge")
