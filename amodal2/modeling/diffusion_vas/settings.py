"""How a video is sampled; the defaults are those of the official demo and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amodal2.modeling.diffusion_vas.conditions import LAYOUTS

SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "interpolation_type": "linear",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "timestep_type": "continuous",
    "prediction_type": "v_prediction",
    "final_sigmas_type": "zero",
}
"""Arguments of ``EulerDiscreteScheduler`` with which it is SVD's EDM sampler, without churn."""


@dataclass(frozen=True)
class SamplerSettings:
    """How a video is sampled.

    Attributes:
        steps (int): denoising steps.
        guidance (tuple[float, float]): scale of classifier-free guidance in the first and last
            frame, linear between; at most 1 in both turns it off.
        fps (int): of the video; the network is told one less (official: 8, TAO-Amodal: 2).
        motion_bucket_id (int): amount of motion, in SVD's units.
        noise_aug_strength (float): standard deviation of the noise on the conditions.
        layout (str): order of the image embeddings, see ``conditions.guidance_contexts``.
        decode_chunk (int): frames that the VAE decodes together. It mixes the frames of a chunk, so
            this changes the result.
        encode_chunk (int): frames that VAE and image encoder see together; no effect on the result.
        batch_guidance (bool): False runs the two halves of the guidance one after the other, in
            half the memory.
    """

    steps: int = 25
    guidance: tuple[float, float] = (1.5, 1.5)
    fps: int = 8
    motion_bucket_id: int = 127
    noise_aug_strength: float = 0.02
    layout: str = "official"
    decode_chunk: int = 8
    encode_chunk: int = 8
    batch_guidance: bool = True

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        if min(self.steps, self.fps, self.decode_chunk, self.encode_chunk) < 1:
            raise ValueError(
                "SamplerSettings: expected steps, fps, decode_chunk and encode_chunk of at least "
                f"1, got {self}"
            )
        if self.layout not in LAYOUTS:
            raise ValueError(
                f"SamplerSettings: expected a layout of {LAYOUTS}, got {self.layout!r}"
            )

    @property
    def guided(self) -> bool:
        """Whether there is classifier-free guidance."""
        return max(self.guidance) > 1
