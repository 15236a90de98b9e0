"""A2VIS's own modules as a continuation of VITA, for training without pretrained A2VIS weights.

The paper does not say how global prototypes, SAMH and class head begin. With random values the
first thing they have to learn is what VITA's head next to them can do already. Started here, the
global prototypes are VITA's clip queries, found again in every clip by their likeness, visible and
amodal masks are both VITA's masks, and classes are VITA's classes; training begins at the
difference. No module and no parameter is added.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amodal2.layers import MultiheadAttention
from amodal2.modeling.a2vis.head import A2VISHead

_OFFSET = 4.0
"""Lifts normalised prototypes above zero before a ReLU and is taken off behind it."""
_LIKENESS = 2.5
"""Attention logit per unit of a head's mean product; two equal prototypes reach 10 at width 16."""


@torch.no_grad()
def start_from_vita(head: A2VISHead, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Set the parameters of A2VIS's head so that it repeats VITA.

    The visible head must have VITA's mask head already. The last layer of each branch of
    SAMH starts at zero, what is before it keeps its random values.

    Args:
        head: changed in place; see :func:`check_vita_start`.
        weights: VITA's, by name; without a class layer of this size the class head is left alone.

    Returns:
        dict[str, str]: parameter that was set to the module of VITA that it stands in for.
    """
    decoder_norm, class_layer = "vita_module.decoder_norm", "vita_module.class_embed"
    parameters: dict[str, Tensor] = dict(head.named_parameters())
    started = {"update.": decoder_norm, "global_query_embed.": "vita_module"}
    head.global_query_embed.weight.zero_()
    _read_most_alike(head.update.attn)
    if head.samh is not None:
        started["samh."] = "vita_module.mask_embed"
        head.samh.mask_embed.load_state_dict(head.visible_embed.state_dict())
        _silence(dict(head.samh.named_parameters()), len(head.samh.adapter))
    for name, value in parameters.items():
        if re.fullmatch(r"update\.norm\..*|samh\.layers\.\d+\.norm[12]\..*", name):
            value.copy_(weights[f"{decoder_norm}.{name.rpartition('.')[2]}"])
    weight, bias = (weights.get(f"{class_layer}.{end}") for end in ("weight", "bias"))
    if weight is not None and bias is not None and weight.shape == head.class_head.fc.weight.shape:
        started["class_head."] = class_layer
        _classify_like(dict(head.class_head.named_parameters()), weight, bias)
    return {
        f"a2vis.{name}": source
        for name in parameters
        for part, source in started.items()
        if name.startswith(part)
    }


def check_vita_start(head: A2VISHead) -> None:
    """Stop at settings with which A2VIS cannot repeat VITA.

    Raises:
        ValueError: naming the first such setting.
    """
    found = {
        "UPDATE.INIT first_clip": head.init == "first_clip",
        "UPDATE.SOFTMAX_AXIS local": head.update.attn.softmax_axis == "local",
        "SAMH.RESIDUAL True": head.samh is None or head.samh.residual,
        "SAMH.FEAT_POS False": head.samh is None or not head.samh.feat_pos,
    }
    for wanted, holds in found.items():
        if not holds:
            raise ValueError(
                f"A2VIS: expected MODEL.A2VIS.{wanted} with START vita, got another value; VITA's "
                "masks cannot be repeated with it"
            )


def _read_most_alike(attention: MultiheadAttention) -> None:
    """Give each query the value of the key that is most like it."""
    identity = torch.eye(attention.out_proj.in_features).to(attention.in_proj_weight)
    scale = _LIKENESS**0.5
    attention.in_proj_weight.copy_(torch.cat([scale * identity, scale * identity, identity]))
    attention.in_proj_bias.zero_()
    attention.out_proj.weight.copy_(identity)
    attention.out_proj.bias.zero_()


def _silence(samh: Mapping[str, Tensor], num_convs: int) -> None:
    """Let convolutions and layers add nothing to the features and prototypes yet."""
    read_outs = (".out_proj.", ".ffn.linear2.", f"adapter.{num_convs - 1}.")
    for name, value in samh.items():
        if any(part in name for part in read_outs):
            value.zero_()


def _classify_like(head: Mapping[str, Tensor], weight: Tensor, bias: Tensor) -> None:
    """Let prototypes pass the hidden layers as they are, to VITA's class layer."""
    for i in range(2):
        nn.init.eye_(head[f"mlp.layers.{i}.weight"])
        head[f"mlp.layers.{i}.bias"].zero_()
    head["mlp.layers.0.bias"].fill_(_OFFSET)
    head["fc.weight"].copy_(weight)
    head["fc.bias"].copy_(bias - _OFFSET * weight.sum(1).to(bias))
