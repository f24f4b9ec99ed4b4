"""How strongly the clip obeys its conditions, and its two halves each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ..jointdit.diffusion.modes import DEFAULTS, HIGHEST, PROMPT
from .sockets import CATEGORY, Guide, own

TOOLTIPS = {
    "video_scale": "How strongly the last frame obeys the picture. 1 is neutral. -1: the model's own.",
    "video_scale_start": "How strongly the first frame obeys the picture, and in joint-cfg agrees with the sound; from "
    "there it rises evenly to the last, as in Stable Video Diffusion. -1: as for the last frame, or the model's own.",
    "audio_scale": "How strongly the sound obeys the text or the picture. 1 is neutral. -1: the model's own.",
    "video_joint_scale": "How strongly the video agrees with the sound. 1 is neutral; tiny was made for 1 to 4. "
    "-1: the model's own.",
    "audio_joint_scale": "How strongly the sound agrees with the video. 1 is neutral; tiny was made for 1 to 4. "
    "-1: the model's own.",
}
OWN = -1.0  # of a scale or rescale: the model's own
UNBOUNDED = 1000.0  # above every video sigma


class Guidance(io.ComfyNode):
    """`JointCFG` as a node; each mode shows the scales that it has."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        modes = [io.DynamicCombo.Option(mode, _scales(scales)) for mode, scales in reversed([*DEFAULTS.items()])]
        return io.Schema(
            node_id="JointDiTJointCFG",
            display_name="JointDiT JointCFG",
            category=CATEGORY,
            description="Guidance of the pair. Leave it out and the model's own is used.",
            search_aliases=["cfg", "guidance scale", "jointcfg", "sync strength"],
            inputs=[
                io.DynamicCombo.Input(
                    "mode",
                    options=modes,
                    tooltip="joint-cfg-star: obeying the conditions and agreeing with each other are separate knobs. "
                    "joint-cfg: one knob for both. cfg: conditions alone. none: no guidance, fastest.",
                ),
                io.Float.Input(
                    "sigma_low",
                    default=0.0,
                    min=0.0,
                    max=UNBOUNDED,
                    step=0.01,
                    tooltip="Guidance acts only while the video's sigma is at least this.",
                    advanced=True,
                ),
                io.Float.Input(
                    "sigma_high",
                    default=UNBOUNDED,
                    min=0.0,
                    max=UNBOUNDED,
                    step=0.01,
                    tooltip="Guidance acts only while the video's sigma is at most this; leaving out the first steps "
                    "keeps colours calm.",
                    advanced=True,
                ),
                io.Float.Input(
                    "rescale",
                    default=OWN,
                    min=OWN,
                    max=1.0,
                    step=0.01,
                    tooltip="How far the contrast is brought back to that without guidance. Helps where high scales "
                    "burn the picture. -1: the model's own.",
                    advanced=True,
                    extra_dict=own(OWN),
                ),
                io.Float.Input(
                    "video_prompt_scale",
                    default=OWN,
                    min=OWN,
                    max=HIGHEST,
                    step=0.1,
                    tooltip="How strongly the video obeys the prompt beside its picture. 1 is neutral and fastest. -1: "
                    "the model's own.",
                    advanced=True,
                    optional=True,  # workflows from before it do without
                    extra_dict=own(OWN),
                ),
            ],
            outputs=[Guide.Output("guidance", display_name="guidance", tooltip="For JointDiT Sample.")],
        )

    @classmethod
    def execute(
        cls,
        mode: Mapping[str, Any],
        sigma_low: float,
        sigma_high: float,
        rescale: float,
        video_prompt_scale: float = OWN,
    ) -> io.NodeOutput:
        from ..jointdit.diffusion.guidance import JointCFG

        asked = {**mode, "rescale": rescale, "video_prompt_scale": video_prompt_scale}
        given = {name: value for name, value in asked.items() if value != OWN}
        return io.NodeOutput(JointCFG(interval=(sigma_low, sigma_high), **given))


def _scales(names: Iterable[str]) -> list[io.Input]:
    return [
        io.Float.Input(name, default=OWN, min=OWN, max=HIGHEST, step=0.1, tooltip=TOOLTIPS[name], extra_dict=own(OWN))
        for name in names
        if name not in PROMPT  # one widget for all modes, after those that workflows had before it
    ]
