"""What the clip is made from: a picture, texts, and the shape of the clip."""

from __future__ import annotations

from typing import get_args

import torch
from comfy_api.latest import io
from torch import Tensor

from ..jointdit.errors import InputError
from ..jointdit.media import exact_fps, fit_image
from ..jointdit.media.image import Fit
from .memory import CONDITIONING, ManagedModel
from .sockets import CATEGORY, Prepared, PreparedClips, model_input

STEP = 8  # pixels of a side of a video latent, of every model so far
MAX_SIDE, MAX_FRAMES, MAX_FPS = 4096, 1000, 240


class Condition(io.ComfyNode):
    """Encodes pictures and texts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTCondition",
            display_name="JointDiT Condition",
            category=CATEGORY,
            description="Encodes the picture and the texts, and says how long and how large the clip is. Several "
            "pictures in the batch give several clips.",
            search_aliases=["image to video with sound", "encode picture and prompt", "clip length"],
            inputs=[
                model_input(),
                io.Image.Input(
                    "image",
                    tooltip="The picture that the clip starts with. A batch gives one clip for each picture.",
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="What happens and what is heard. Empty: the sound follows from the picture.",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    default="",
                    tooltip="What should not be heard.",
                ),
                _size("width"),
                _size("height"),
                io.Int.Input(
                    "frames",
                    default=0,
                    min=0,
                    max=MAX_FRAMES,
                    tooltip="Number of frames of the clip. 0: the model's own (tiny: 20).",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=MAX_FPS,
                    step=0.001,
                    tooltip="Frames in a second; the sound lasts frames / fps. 0: the model's own (tiny: 12.5).",
                ),
                io.Combo.Input(
                    "fit",
                    options=list(get_args(Fit)),
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
                ),
                io.Float.Input(
                    "noise_augmentation",
                    default=-1.0,
                    min=-1.0,
                    max=10.0,
                    step=0.01,
                    tooltip="Noise on the picture: more lets the video leave it further. -1: the model's own (0.02).",
                    advanced=True,
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
    def validate_inputs(
        cls, width: int | None, height: int | None, frames: int | None, fps: float | None
    ) -> bool | str:
        for name, side in (("width", width), ("height", height)):
            if side is not None and (side % STEP or not 0 <= side <= MAX_SIDE):
                nearest = min(max(round(side / STEP) * STEP, STEP), MAX_SIDE)
                return f"{name} is {side}, but must be a multiple of {STEP} up to {MAX_SIDE}; use {nearest}, or 0"
        if frames is not None and (frames == 1 or not 0 <= frames <= MAX_FRAMES):
            return f"frames is {frames}, but must be from 2 to {MAX_FRAMES}, or 0 for the model's own"
        if fps:
            try:
                exact_fps(fps)
            except InputError as error:
                return f"{error}; 0 is the model's own"
        return True

    @classmethod
    def execute(
        cls,
        model: ManagedModel,
        image: Tensor,
        prompt: str,
        negative_prompt: str,
        width: int,
        height: int,
        frames: int,
        fps: float,
        fit: Fit,
        motion_bucket: int,
        noise_augmentation: float,
        picture_seed: int,
    ) -> io.NodeOutput:
        pipe, count = model.pipe, len(image)
        shape = pipe.shape(frames or None, fps or None, height or None, width or None)
        progress = model.start(CONDITIONING, 2)
        pictures = [(each[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy() for each in image]
        conditions = pipe.condition(
            pictures,
            [prompt.strip() or None] * count,
            [negative_prompt.strip() or None] * count,
            shape,
            generator=torch.Generator().manual_seed(picture_seed),
            fit=fit,
            motion_bucket=motion_bucket or None,
            noise_augmentation=None if noise_augmentation < 0 else noise_augmentation,
        )
        progress(1, 2)
        factor = pipe.layout.video_factor
        small = [fit_image(picture, shape.height // factor, shape.width // factor, fit) for picture in pictures]
        progress(2, 2)
        thumbnails = torch.stack([torch.from_numpy(each) for each in small]) / 255
        return io.NodeOutput(PreparedClips(conditions, thumbnails), float(shape.fps))


def _size(name: str) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=MAX_SIDE,
        step=STEP,
        tooltip=f"{name.capitalize()} of the video in pixels, a multiple of {STEP}. 0: the model's own (tiny: 128).",
    )
