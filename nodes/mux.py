"""Frames and sound to a video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from comfy_api.v0_0_2 import InputImpl, Types, io
from torch import Tensor

from ..jointdit.media import exact_fps, fit_audio
from .sockets import CATEGORY, sound_of


class Mux(io.ComfyNode):
    """A VIDEO whose sound is exactly as long as its frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTMux",
            display_name="JointDiT Mux",
            category=CATEGORY,
            description="Joins frames and sound into a video for Save Video. The sound is cut or filled with silence "
            "so that both end together.",
            search_aliases=["combine video and audio", "create video", "add sound to video"],
            inputs=[
                io.Image.Input("images", tooltip="The frames, from JointDiT Decode Video or of a video that is there."),
                io.Audio.Input("audio", tooltip="The sound, from JointDiT Decode Audio or of a file."),
                io.Float.Input(
                    "fps",
                    default=12.5,
                    min=0.1,
                    max=240.0,
                    step=0.001,
                    tooltip="Frames in a second. Connect fps of JointDiT Condition, or that of the video whose frames "
                    "these are: another number changes the speed of the picture and not of the sound.",
                ),
            ],
            outputs=[io.Video.Output("video", display_name="video", tooltip="For Save Video.")],
        )

    @classmethod
    def execute(cls, images: Tensor, audio: Mapping[str, Any], fps: float) -> io.NodeOutput:
        (waveform, rate), exact = sound_of(audio), exact_fps(fps)
        fitted = torch.from_numpy(fit_audio(waveform, round(len(images) / exact * rate)))
        sound = {"waveform": fitted[None], "sample_rate": rate}
        components = Types.VideoComponents(images=images, audio=sound, frame_rate=exact)
        return io.NodeOutput(InputImpl.VideoFromComponents(components))
