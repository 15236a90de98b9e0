"""Official files of C2F-Seg: ``vqgan_*`` (stage 1) and ``c2f_seg_*`` (stage 2).

Both hold several parts, each with names of its own. They are joined under the parts' names, which
are those of our modules too; only the ResNet (``img_encoder``) gets Detectron2's names. The files
are recognised by their parts, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from amodal2.checkpoint.backbones import torchvision_resnet_name

_STAGES = (("g_model", "d_model"), ("model", "img_encoder", "refine"))
_ENCODER, _BACKBONE = "img_encoder.encoder.model.", "backbone."
CODEBOOK, VOCABULARY = "g_model.quantize.embedding.weight", "model.m_bias"
_TRANSFORMER = ("model.c_emb.weight", "model.z_emb.weight", VOCABULARY)


def join_c2f_parts(data: dict[Any, Any]) -> None:
    """Put the parts of an official file together under "model", in place; leave others alone.

    Args:
        data: contents of a file.
    """
    for parts in _STAGES:
        if all(isinstance(data.get(part), dict) for part in parts):
            data["model"] = {
                f"{part}.{name.removeprefix('module.')}": value
                for part, values in [(part, data.pop(part)) for part in parts]
                for name, value in values.items()
            }
            return


def c2f_names(
    names: Collection[str], model_names: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Say what becomes of the names of a joined file.

    Args:
        names: names in the file.
        model_names: names of the model; empty if there is none.

    Returns:
        tuple: renamed (name in the file to name in the model) and dropped (name in the file to the
        reason).
    """
    renamed, dropped = {}, {}
    for name in names:
        if name.startswith(_ENCODER):
            new = _BACKBONE + torchvision_resnet_name(name.removeprefix(_ENCODER))
            if ".fc." in new:
                dropped[name] = "belongs to the classifier"
            elif name.endswith("num_batches_tracked") and model_names and new not in model_names:
                dropped[name] = "counts batches"
            else:
                renamed[name] = new
        elif CODEBOOK in names and name.startswith(("d_model.", "code_age")):
            if model_names and name not in model_names:
                dropped[name] = "belongs to the training of the VQ model"
    return renamed, dropped


def describe_c2f(state: Mapping[str, Any]) -> str:
    """Say what the weights of C2F-Seg are, and whether the official code has trained them.

    That code fixes the transformer's biases and most LayerNorm weights by mistake, which shows.

    Args:
        state: name to array or tensor, under our names.

    Returns:
        str: "" for other systems.
    """
    parts = []
    if all(name in state for name in _TRANSFORMER):
        kind = "video" if "model.blocks.0.ln3.weight" in state else "images"
        layers = len({n.split(".")[2] for n in state if n.startswith("model.blocks.")})
        mark = "as the official training leaves them" if _biases_untrained(state) else "trained"
        parts.append(
            f"C2F-Seg for {kind}, {layers} layers, vocabulary of {len(state[VOCABULARY]) - 1} "
            f"codes, biases and LayerNorms {mark}"
        )
    if CODEBOOK in state:
        codes, channels = state[CODEBOOK].shape
        parts.append(f"VQ model of masks, {codes} codes of {channels} channels")
    return "; ".join(parts)


def _biases_untrained(state: Mapping[str, Any]) -> bool:
    """Tell whether the transformer has 0 in all biases but one, and 1 in LayerNorms 1 and 2."""
    for name, value in state.items():
        if not name.startswith("model.") or name == "model.conv_in.bias":
            continue
        if name.endswith("bias"):
            expected = 0.0
        elif name.endswith((".ln1.weight", ".ln2.weight")):
            expected = 1.0
        else:
            continue
        if not bool((torch.as_tensor(value) == expected).all()):
            return False
    return True


def codebook_mismatch(file: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """Say how codebook or vocabulary of a file differ from the model's.

    Args:
        file: name to array or tensor, under our names.
        model: those of the model.

    Returns:
        str: expected and got; "" if they fit or either lacks them.
    """
    keys = "MODEL.C2F_SEG.VQ.CODES"
    if CODEBOOK in file and CODEBOOK in model:
        theirs, own = tuple(file[CODEBOOK].shape), tuple(model[CODEBOOK].shape)
        if theirs != own:
            return (
                f"expected a codebook of {own[0]} codes of {own[1]} channels ({keys}, "
                f"{keys.replace('CODES', 'CODE_DIM')}), got {theirs[0]} of {theirs[1]}"
            )
    if VOCABULARY in file and VOCABULARY in model:
        given, wanted = len(file[VOCABULARY]) - 1, len(model[VOCABULARY]) - 1
        if given != wanted:
            return f"expected a vocabulary of {wanted} codes ({keys}), got {given}"
    return ""
