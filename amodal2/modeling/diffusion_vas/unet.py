"""The UNet of Stable Video Diffusion with a second, wider input convolution.

Imports diffusers; see :func:`amodal2.modeling.diffusion_vas.libraries.require_libraries`.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

LATENT_SLOTS = 4
"""Latent channels of a video; the input has that many for the noisy video and each condition."""

_CROSS_DOWN, _PLAIN_DOWN = "CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"
_CROSS_UP, _PLAIN_UP = "CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"


class DiffusionVASUNet(UNetSpatioTemporalConditionModel):
    """Predicts the EDM velocity of a video from [noisy video, condition 1, condition 2, ...].

    Two things differ from the stock class, as in the official one: ``conv_in2`` takes the place of
    ``conv_in`` (which stays in the weights, unused), and every frame has a context of its own.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 8,
        out_channels: int = LATENT_SLOTS,
        down_block_types: tuple[str, ...] = (_CROSS_DOWN, _CROSS_DOWN, _CROSS_DOWN, _PLAIN_DOWN),
        up_block_types: tuple[str, ...] = (_PLAIN_UP, _CROSS_UP, _CROSS_UP, _CROSS_UP),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int | tuple[int, ...] = 2,
        cross_attention_dim: int | tuple[int, ...] = 1024,
        transformer_layers_per_block: int | tuple[int, ...] = 1,
        num_attention_heads: int | tuple[int, ...] = (5, 10, 20, 20),
        num_frames: int = 25,
        num_conditions: int = 2,
    ) -> None:
        """Build the network.

        ``num_conditions`` videos are concatenated to the noisy one, 2 in the official models; the
        other arguments are those of the stock class.
        """
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            addition_time_embed_dim=addition_time_embed_dim,
            projection_class_embeddings_input_dim=projection_class_embeddings_input_dim,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            transformer_layers_per_block=transformer_layers_per_block,
            num_attention_heads=num_attention_heads,
            num_frames=num_frames,
        )
        channels = out_channels * (1 + num_conditions)
        self.conv_in2 = nn.Conv2d(channels, block_out_channels[0], kernel_size=3, padding=1)

    @torch.no_grad()
    def widen_input(
        self, num_conditions: int, weight: Tensor, bias: Tensor, *, zeros: bool = True
    ) -> None:
        """Build ``conv_in2`` anew from a narrower convolution, with zeros for further channels.

        With SVD's ``conv_in`` the modal mask takes the slot of the image and the other conditions
        start without effect; with the ``conv_in2`` of a mask-only model this is the second stage of
        the fine-tuning (Sec. 3.2).

        Args:
            num_conditions: of the model from now on.
            weight (Tensor[C0, C, 3, 3]): of the narrower convolution; C may be the new width.
            bias (Tensor[C0]): its bias.
            zeros: False gives the further channels PyTorch's random values (ablation, Table 4).

        Raises:
            ValueError: if it is wider than the new one or has other output channels.
        """
        channels, width = self.config.out_channels * (1 + num_conditions), self.conv_in.out_channels
        if weight.shape[1] > channels or weight.shape[0] != width:
            raise ValueError(
                f"DiffusionVASUNet.widen_input: expected a convolution of at most {channels} input "
                f"and exactly {width} output channels, got {tuple(weight.shape)}"
            )
        # Not on the device of a checkpoint's missing conv_in2, which is left on the meta device.
        convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, device=weight.device)
        convolution = convolution.to(weight.dtype)
        if zeros:
            convolution.weight.zero_()
        convolution.weight[:, : weight.shape[1]] = weight
        assert convolution.bias is not None, "it was built with one"
        convolution.bias.copy_(bias)
        self.conv_in2 = convolution
        self.register_to_config(num_conditions=num_conditions)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Predict the velocity.

        Args:
            sample (Tensor[B, T, C, h, w]): scaled noisy latents and the latents of the conditions.
            timestep (Tensor[] | Tensor[B] | float): 0.25 ln sigma.
            encoder_hidden_states (Tensor[B * T, S, D]): contexts of the frames. The temporal layers
                see that of the first frame only (stock behaviour).
            added_time_ids (Tensor[B, 3]): frame rate id, motion bucket, noise augmentation.
            return_dict: only False; the argument is part of the stock signature.

        Returns:
            tuple: Tensor[B, T, out_channels, h, w].

        Raises:
            ValueError: if the rows of the contexts are not those of the frames, or ``return_dict``
                is True.
        """
        batch, frames = sample.shape[:2]
        if encoder_hidden_states.shape[0] != batch * frames or return_dict:
            raise ValueError(
                f"DiffusionVASUNet: expected contexts [{batch * frames}, S, D] and return_dict "
                f"False, got {tuple(encoder_hidden_states.shape)} and {return_dict}"
            )
        times = torch.as_tensor(timestep, device=sample.device).expand(batch)
        emb = self.time_embedding(self.time_proj(times).to(sample.dtype))
        ids = self.add_time_proj(added_time_ids.flatten()).reshape(batch, -1)
        emb = (emb + self.add_embedding(ids.to(emb.dtype))).repeat_interleave(frames, dim=0)
        common = {
            "temb": emb,
            "image_only_indicator": sample.new_zeros(batch, frames),
        }
        hidden = self.conv_in2(sample.flatten(0, 1))
        hidden = self._run_blocks(hidden, encoder_hidden_states, common)
        hidden = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        return (hidden.reshape(batch, frames, *hidden.shape[1:]),)

    def _run_blocks(self, hidden: Tensor, contexts: Tensor, common: dict[str, Any]) -> Tensor:
        """Run the blocks of both paths; [B * T, C0, h, w] in and out."""

        def context_of(block: nn.Module) -> dict[str, Tensor]:
            attends = getattr(block, "has_cross_attention", False)
            return {"encoder_hidden_states": contexts} if attends else {}

        skips: tuple[Tensor, ...] = (hidden,)
        for block in self.down_blocks:
            hidden, states = block(hidden_states=hidden, **common, **context_of(block))
            skips += states
        hidden = self.mid_block(hidden_states=hidden, encoder_hidden_states=contexts, **common)
        for block in self.up_blocks:
            count = len(block.resnets)
            own, skips = skips[-count:], skips[:-count]
            hidden = block(
                hidden_states=hidden,
                res_hidden_states_tuple=own,
                upsample_size=skips[-1].shape[2:] if skips else None,
                **common,
                **context_of(block),
            )
        return hidden


class SingleTokenAttention:
    """Attention processor that skips what a single context token makes pointless.

    The softmax over one key is 1, so cross attention returns the value of that key, whatever the
    query: neither queries nor keys are computed. Everything else goes to another processor.
    """

    def __init__(self, general: Any) -> None:
        """Keep the processor for self attention and for longer contexts.

        Args:
            general: an attention processor of diffusers.
        """
        self.general = general

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        """Attend; the arguments are those of diffusers' processors.

        Args:
            attn: the layer with its projections.
            hidden_states (Tensor[B, L, C]): queries.
            encoder_hidden_states (Tensor[B, S, D] | None): contexts.
            others: passed on, e.g. a mask.

        Returns:
            Tensor[B, L, C]: the layer's output.
        """
        if encoder_hidden_states is None or encoder_hidden_states.shape[1] != 1:
            return self.general(attn, hidden_states, encoder_hidden_states, **others)
        value = attn.to_out[0](attn.to_v(encoder_hidden_states))
        return attn.to_out[1](value).expand_as(hidden_states)


def empty_slots(codes: Tensor) -> Tensor:
    """Put zeros where the noisy video goes, for a UNet that regresses.

    Args:
        codes (Tensor[B, T, C, h, w]): latents of the conditions.

    Returns:
        Tensor[B, T, 4 + C, h, w]: input of the UNet.
    """
    return torch.cat([torch.zeros_like(codes[:, :, :LATENT_SLOTS]), codes], dim=2)
