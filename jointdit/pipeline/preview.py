"""What a clip looks and sounds like while it is sampled, without its autoencoders."""

from __future__ import annotations

import numpy as np
import torch
from einops import einsum, rearrange
from torch import Tensor

from ..diffusion.sync_guidance import loudness_readout
from ..encoders.autoencoders import AudioAutoencoder
from ..encoders.mel import SILENCE
from ..media.image import Fit, fit_image
from .components import JointDiTComponents
from .encode import Conditions, Picture, as_picture

LENGTH = 16  # latents along time that are decoded for the loudness of the middle of all sounds


class FastDecoder:
    """Video latents to small pictures by a linear map of their channels, fitted to the clip's own picture.

    latents: the picture's, scaled [C, h, w].    picture: float [h, w, 3] in 0..1.
    """

    def __init__(self, latents: Tensor, picture: Tensor) -> None:
        x = _with_one(rearrange(latents, "c h w -> (h w) c"))
        y = rearrange(picture, "h w c -> (h w) c").to(x)
        ridge = 1e-2 * len(x) * torch.eye(x.shape[1], device=x.device)  # a plain picture does not fix every channel
        self._map = torch.linalg.solve(x.T @ x + ridge, x.T @ y)

    @classmethod
    def of(cls, pipe: JointDiTComponents, conditions: Conditions, image: Picture, fit: Fit) -> FastDecoder:
        """For the first clip of `conditions`, whose picture is `image`."""
        shape, factor = conditions.shape, pipe.layout.video_factor
        small = fit_image(as_picture(image), shape.height // factor, shape.width // factor, fit)
        latents = conditions.conditional.image_latents[0] * pipe.video_vae.config.scaling_factor
        return cls(latents, torch.from_numpy(small) / 255)

    def __call__(self, latents: Tensor) -> np.ndarray:
        """Scaled latents [F, C, h, w] -> uint8 [F, h, w, 3]."""
        colours = _with_one(rearrange(latents, "f c h w -> f h w c")) @ self._map.to(latents.device)
        return (colours.clamp(0, 1) * 255).round().byte().cpu().numpy()


class FastLoudness:
    """Audio latents to how loud the sound is over time, by a linear map that is read from the autoencoder once.

    codec: where it computes; autograd goes through its weights.
    """

    def __init__(self, codec: AudioAutoencoder) -> None:
        self._map = loudness_readout(codec).float().cpu()
        channels, bins = self._map.shape
        with torch.no_grad():
            middle = torch.zeros(1, channels, LENGTH, bins, device=codec.vae.device)
            self._offset = codec.decode_mel(middle).float().mean().item()

    def __call__(self, latents: Tensor) -> np.ndarray:
        """Scaled latents [C, l, m] -> float32 [l]: the mean of the log-mel, from 0, which is silence, to 1, which is
        louder than recordings are."""
        heard = einsum(latents.float().cpu(), self._map, "c l m, c m -> l") + self._offset
        return (1 - heard / SILENCE).clamp(0, 1).numpy()


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x.float(), torch.ones_like(x[..., :1], dtype=torch.float32)], dim=-1)
