"""What travels between the nodes besides ComfyUI's own types."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io
from torch import Tensor

from ..jointdit.pipeline import Conditions

CATEGORY = "JointDiT"
CLIP_KEY = "jointdit_clip"  # in an audio LATENT: the `ClipShape` whose length its sound must have

Model = io.Custom("JOINTDIT_MODEL")  # `memory.ManagedModel`
Prepared = io.Custom("JOINTDIT_CONDITIONS")  # `PreparedClips`
Guide = io.Custom("JOINTDIT_GUIDANCE")  # `JointCFG`


@dataclass(frozen=True)
class PreparedClips:
    """Encoded conditions of B clips, and their pictures as small as their latents: float [B, h, w, 3] in 0..1."""

    conditions: Conditions
    pictures: Tensor
