"""A time span of a clip made anew."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..jointdit.options import highest
from .sockets import CATEGORY, Guide, model_input, own, sampler_input, seed_input


class Retake(io.ComfyNode):
    """From a clip to the same clip with some seconds of it made anew."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTRetake",
            display_name="JointDiT Retake",
            category=CATEGORY,
            description="Makes some seconds of a clip anew, picture and sound together or one of them, and keeps the "
            "rest as it is. The new part goes on from the clip on both sides.",
            search_aliases=["inpaint in time", "regenerate a part", "replace the sound of a part", "redo"],
            inputs=[
                model_input(),
                io.Video.Input(
                    "video",
                    tooltip="The clip, with its sound. For new frames it must have a size that the model can make; for "
                    "a new sound alone any size will do.",
                ),
                io.Float.Input(
                    "start",
                    default=0.4,
                    min=0.0,
                    max=highest("retake"),
                    step=0.01,
                    tooltip="Second of the clip from which it is made anew. The first frame always stays.",
                ),
                io.Float.Input(
                    "stop",
                    default=1.2,
                    min=0.0,
                    max=highest("retake"),
                    step=0.01,
                    tooltip="Second of the clip up to which.",
                ),
                io.Combo.Input(
                    "what",
                    options=["both", "video", "sound"],
                    default="both",
                    tooltip="What is made anew. The other one stays, and what is made goes with it.",
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="What happens and what is heard in the new part. Empty: the picture suggests it.",
                ),
                io.String.Input("negative_prompt", multiline=True, default="", tooltip="What should not be heard."),
                seed_input(),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=999,
                    tooltip="Denoising steps: more is finer and slower. 0: the model's own (experts: 25).",
                    extra_dict=own(0, "steps"),
                ),
                sampler_input(),
                Guide.Input(
                    "guidance", optional=True, tooltip="From JointDiT JointCFG. Left out: the model's own guidance."
                ),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The clip with its new part, for Save Video.")
            ],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        from .work.retake import retake

        return io.NodeOutput(retake(**given))
