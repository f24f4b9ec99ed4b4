"""What the clip is made from: a picture, a video or a sound that is there, texts, and the shape of the clip."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..jointdit.options import words
from .shape import MAX_FRAMES, shape_inputs
from .sockets import CATEGORY, Prepared, model_input, own

ABSENT = object()  # what ComfyUI asks about a socket that nothing is connected to


class Condition(io.ComfyNode):
    """Encodes pictures and texts, and the half of a clip that is given."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTCondition",
            display_name="JointDiT Condition",
            category=CATEGORY,
            description="Encodes the picture and the texts, and says how long and how large the clip is. Several "
            "pictures in the batch give several clips. With a video it is the sound that is made, and with a sound "
            "the video. A clip that is longer than the model's own is made in windows that overlap.",
            search_aliases=[
                "image to video with sound",
                "encode picture and prompt",
                "clip length",
                "video to audio",
                "audio to video",
            ],
            inputs=[
                model_input(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The picture that the clip starts with. A batch gives one clip for each picture.",
                ),
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip="Instead of a picture: this video, of any length, stays as it is and gets a sound.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The picture moves to this sound, of any length, which stays as it is. Not with a video.",
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="What happens and what is heard. Empty: the picture suggests it.",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    default="",
                    tooltip="What should not be heard.",
                ),
                *shape_inputs("as long as the given video or sound, or else the model's own (tiny: 20)"),
                io.Combo.Input(
                    "fit",
                    options=list(words("fit")),
                    default="cover",
                    tooltip="How a picture of another shape meets the frame. cover: it fills it and is cut at its "
                    "edges. contain: all of it is seen, between bars. stretch: its proportions change.",
                ),
                io.Int.Input(
                    "motion_bucket",
                    default=0,
                    min=0,
                    max=1023,
                    tooltip="How much moves, as in Stable Video Diffusion. 0: the model's own (127).",
                    advanced=True,
                    extra_dict=own(0, "motion_bucket"),
                ),
                io.Float.Input(
                    "noise_augmentation",
                    default=-1.0,
                    min=-1.0,
                    max=10.0,
                    step=0.01,
                    tooltip="Noise on the picture: more lets the video leave it further. -1: the model's own (0.02).",
                    advanced=True,
                    extra_dict=own(-1, "noise_augmentation"),
                ),
                io.Int.Input(
                    "picture_seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    tooltip="Fixes the noise on the picture. With the same number in JointDiT Sample the clip is "
                    "the one that the command line makes with it.",
                    advanced=True,
                ),
                io.Int.Input(
                    "window",
                    default=0,
                    min=0,
                    max=MAX_FRAMES,
                    tooltip="A clip of more frames than this is made in windows of so many, each of which goes on from "
                    "the one before. 0: as many as the model was made for (tiny: 20).",
                    optional=True,  # graphs that were saved before this input was added stay valid
                    advanced=True,
                    extra_dict=own(0, "frames"),
                ),
                io.Int.Input(
                    "overlap",
                    default=0,
                    min=0,
                    max=MAX_FRAMES - 1,
                    tooltip="Frames that two windows share at least; more of them cost more windows. 0: two fifths of "
                    "a window.",
                    optional=True,
                    advanced=True,
                    extra_dict=own(0, label="two fifths of a window"),
                ),
            ],
            outputs=[
                Prepared.Output(
                    "conditions",
                    display_name="conditions",
                    tooltip="The encoded pictures and texts with the clip's size, frames and fps, for JointDiT Sample.",
                ),
                io.Float.Output("fps", display_name="fps", tooltip="Frames in a second as it holds, for JointDiT Mux."),
            ],
        )

    @classmethod
    def validate_inputs(cls, image: object = ABSENT, video: object = ABSENT, audio: object = ABSENT) -> bool | str:
        # ComfyUI shows the complaint at each of these that is connected: where neither is, `execute` has to say it.
        if ABSENT not in (image, video):
            return "both image and video are connected; take one away: a picture is moved, a video gets a sound"
        if ABSENT not in (video, audio):
            return "both video and audio are connected, so nothing is left to make; take one of them away"
        return True

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        from .work.condition import condition

        return io.NodeOutput(*condition(**given))
