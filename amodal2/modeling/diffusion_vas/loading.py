"""Pipelines from folders in the official (hub) layout, from the hub, or with random weights."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from amodal2.modeling.diffusion_vas.libraries import EXTRA, require_libraries
from amodal2.modeling.diffusion_vas.lora import merge_lora
from amodal2.modeling.diffusion_vas.presets import preset
from amodal2.modeling.diffusion_vas.settings import SCHEDULER
from amodal2.utils.errors import CheckpointError, MissingDependencyError
from amodal2.utils.logging import get_logger
from amodal2.utils.optional import require

if TYPE_CHECKING:
    from amodal2.modeling.diffusion_vas.pipeline import DiffusionVASPipeline

logger = get_logger(__name__)

CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "image_encoder": "config.json",
    "scheduler": "scheduler_config.json",
    "feature_extractor": "preprocessor_config.json",
}
"""Sub-folder of every part, and the file that describes it."""

WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "image_encoder": "model",
}
"""Stem of the weights, ``<stem>.safetensors`` or ``<stem>.fp16.safetensors``."""

HUB = {
    "mask": "kaihuac/diffusion-vas-amodal-segmentation",
    "content": "kaihuac/diffusion-vas-content-completion",
}
"""Names of the official models of both stages."""

_VARIANTS = {None: ".safetensors", "fp16": ".fp16.safetensors"}
_INPUT = "conv_in2.weight"
_LFS = b"version https://git-lfs"


def build_pipeline(architecture: str, num_conditions: int = 2) -> DiffusionVASPipeline:
    """Build a pipeline with random weights.

    Args:
        architecture: one of ``presets.PRESETS``.
        num_conditions: of the UNet.

    Returns:
        DiffusionVASPipeline: float32.

    Raises:
        MissingDependencyError: if diffusers, transformers or accelerate is absent or too old.
        ValueError: for an unknown architecture.
    """
    require_libraries()
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    from amodal2.modeling.diffusion_vas.pipeline import DiffusionVASPipeline
    from amodal2.modeling.diffusion_vas.unet import DiffusionVASUNet

    sizes = preset(architecture)
    encoder = CLIPVisionConfig(**sizes["image_encoder"])
    with torch.device("cpu"):  # it reads its tables, wherever the networks are built
        scheduler = EulerDiscreteScheduler(**SCHEDULER)
    return DiffusionVASPipeline(
        vae=AutoencoderKLTemporalDecoder(**sizes["vae"]),
        image_encoder=CLIPVisionModelWithProjection(encoder),
        unet=DiffusionVASUNet(**sizes["unet"], num_conditions=num_conditions),
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(),
    )


def load_pipeline(
    source: str | Path,
    *,
    dtype: torch.dtype | None = None,
    num_conditions: int | None = None,
    zero_init: bool = True,
) -> DiffusionVASPipeline:
    """Load a model in the official layout; ``model_index.json`` is not needed.

    A UNet without ``conv_in2`` (Stable Video Diffusion itself), or with a narrower one than
    ``num_conditions`` asks for, is widened with zeros.

    Args:
        source: a folder, or a name on the hub such as those of ``HUB``.
        dtype: of the weights; None takes float16 where the folder has nothing else, else float32.
        num_conditions: of the UNet; None takes what the weights have, 2 for those of SVD.
        zero_init: False widens with random values instead of zeros.

    Returns:
        DiffusionVASPipeline: on the CPU.

    Raises:
        MissingDependencyError: if diffusers, transformers or accelerate is absent or too old.
        CheckpointError: if files are missing, incomplete or of another model, or the hub cannot be
            reached.
    """
    require_libraries()
    folder = Path(source) if Path(source).is_dir() else _download(str(source))
    headers = check_folder(folder)
    variants = {name: _variant(folder, name) for name in WEIGHTS}
    if dtype is None:
        dtype = torch.float16 if variants["unet"] == "fp16" else torch.float32
    try:
        parts = _load_parts(folder, headers, variants, dtype, num_conditions, zero_init)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as e:
        raise CheckpointError(
            f"load_pipeline: expected a model that diffusers "
            f"{require('diffusers', EXTRA).__version__} can read, got {folder}: {e}; download it "
            "again, or install the versions of constraints.txt"
        ) from e
    from amodal2.modeling.diffusion_vas.pipeline import DiffusionVASPipeline

    return DiffusionVASPipeline(**parts)


def load_earlier_stage(
    file: str | Path, architecture: str, num_conditions: int, *, zero_init: bool = True
) -> DiffusionVASPipeline:
    """Continue from a checkpoint of our own training, whose input may have fewer conditions.

    Low-rank additions are merged into the weights.

    Args:
        file: ``model_final.pth`` or another checkpoint of the meta-architecture ``DiffusionVAS``.
        architecture: its size, one of ``presets.PRESETS``.
        num_conditions: of the UNet from now on.
        zero_init: False widens with random values instead of zeros.

    Returns:
        DiffusionVASPipeline: float32, on the CPU.

    Raises:
        MissingDependencyError: if diffusers, transformers or accelerate is absent or too old.
        CheckpointError: if the file is missing, damaged or of another model.
    """
    try:
        state = merge_lora(torch.load(file, map_location="cpu", weights_only=True)["model"])
        width = state[f"unet.{_INPUT}"].shape[1]
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        AttributeError,
        pickle.UnpicklingError,
        EOFError,
    ) as e:
        raise CheckpointError(
            f"load_earlier_stage: expected a checkpoint of DiffusionVAS in {file}, got {e!r}"
        ) from e
    slots = state["unet.conv_out.weight"].shape[0]
    pipeline = build_pipeline(architecture, width // slots - 1)
    try:
        for name in WEIGHTS:
            prefix = f"{name}."
            part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            getattr(pipeline, name).load_state_dict(part)
        unet = pipeline.unet
        if width != slots * (1 + num_conditions):
            own = unet.conv_in2
            unet.widen_input(num_conditions, own.weight, own.bias, zeros=zero_init)
    except (RuntimeError, ValueError) as e:
        raise CheckpointError(
            f"load_earlier_stage: expected a checkpoint of size {architecture!r} with at most "
            f"{num_conditions} conditions, got {file}: {e}"
        ) from e
    return pipeline


def _load_parts(
    folder: Path,
    headers: dict[str, dict[str, Any]],
    variants: dict[str, str | None],
    dtype: torch.dtype,
    num_conditions: int | None,
    zero_init: bool,
) -> dict[str, Any]:
    """Load the five parts one by one."""
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    from amodal2.modeling.diffusion_vas.unet import LATENT_SLOTS, DiffusionVASUNet

    def options(name: str) -> dict[str, Any]:
        return {"subfolder": name, "variant": variants[name], "use_safetensors": True}

    own = headers["unet"].get(_INPUT)
    width = own["shape"][1] // LATENT_SLOTS - 1 if own else 2
    wanted = width if num_conditions is None else num_conditions
    unet = DiffusionVASUNet.from_pretrained(
        folder, torch_dtype=dtype, num_conditions=width, **options("unet")
    )
    if own is None or wanted != width:
        first = unet.conv_in if own is None else unet.conv_in2
        unet.widen_input(wanted, first.weight, first.bias, zeros=zero_init)
    return {
        "unet": unet,
        "vae": AutoencoderKLTemporalDecoder.from_pretrained(
            folder, torch_dtype=dtype, **options("vae")
        ),
        "image_encoder": CLIPVisionModelWithProjection.from_pretrained(
            folder, dtype=dtype, **options("image_encoder")
        ),
        "scheduler": EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler"),
        "feature_extractor": CLIPImageProcessor.from_pretrained(
            folder, subfolder="feature_extractor"
        ),
    }


def check_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Check that a folder has every file of a model, whole.

    Args:
        folder: in the official layout.

    Returns:
        dict: of every network, name of each tensor to its entry in the header ("dtype", "shape").

    Raises:
        CheckpointError: naming everything that is missing or incomplete, and what to do.
    """
    problems, headers = [], {}
    for name, file in CONFIGS.items():
        path = folder / name / file
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            problems.append(f"no {name}/{file}")
        except (OSError, ValueError):
            problems.append(f"{name}/{file} is no JSON file")
    for name, stem in WEIGHTS.items():
        path = folder / name / f"{stem}{_VARIANTS[_variant(folder, name)]}"
        if not path.is_file():
            problems.append(f"no {name}/{stem}.safetensors (nor {stem}.fp16.safetensors)")
            continue
        try:
            headers[name] = read_header(path)
        except ValueError as e:
            problems.append(f"{name}/{path.name}: {e}")
    if problems:
        raise CheckpointError(
            f"load_pipeline: expected a whole Diffusion-VAS model in {folder}, got: "
            f"{'; '.join(problems)}; finish the download with 'hf download "
            f"{HUB['mask']} --local-dir {folder}' (stage 2: {HUB['content']})"
        )
    return headers


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of a safetensors file and check the length of the file against it.

    Args:
        path: the file.

    Returns:
        dict: name of each tensor to "dtype", "shape" and "data_offsets".

    Raises:
        ValueError: if the file is cut off, a pointer of git-lfs, or something else.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start and _LFS.startswith(start):
            raise ValueError("only a pointer of git-lfs; run 'git lfs pull'")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length + 8 > size:
            raise ValueError(f"cut off at {size} bytes")
        try:
            header = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for key, entry in header.items() if key[0] != "_"))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as e:
            raise ValueError("no safetensors file") from e
    if size != 8 + length + end:
        raise ValueError(f"cut off at {size} of {8 + length + end} bytes")
    return {key: entry for key, entry in header.items() if key != "__metadata__"}


def _variant(folder: Path, name: str) -> str | None:
    """Return which weights a part has; None, the full precision, is preferred."""
    half = folder / name / f"{WEIGHTS[name]}{_VARIANTS['fp16']}"
    full = folder / name / f"{WEIGHTS[name]}{_VARIANTS[None]}"
    return "fp16" if half.is_file() and not full.is_file() else None


def _download(name: str) -> Path:
    """Fetch a model from the hub, or find it in the hub's cache."""
    if name.count("/") != 1 or name.startswith(("/", ".", "~")):
        raise CheckpointError(
            f"load_pipeline: expected a folder or a name on the hub such as {HUB['mask']}, got "
            f"{name!r}, which is neither"
        )
    hub = require("huggingface_hub", EXTRA)
    patterns = [f"{part}/*.{kind}" for part in CONFIGS for kind in ("json", "safetensors")]
    try:
        return Path(hub.snapshot_download(name, allow_patterns=patterns))
    except MissingDependencyError:
        raise
    except Exception as e:  # the hub's own errors, and those of whatever it connects with
        raise CheckpointError(
            f"load_pipeline: expected to reach the hub for {name!r}, got {type(e).__name__}; where "
            f"there is a network run 'hf download {name} --local-dir FOLDER', copy the folder here "
            "and give its path"
        ) from e
