"""Latents to pictures and to sound. Each clip of a batch leaves as an item of its own."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from .sockets import CATEGORY, model_input


class DecodeVideo(io.ComfyNode):
    """Video latents to frames, some at a time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTDecodeVideo",
            display_name="JointDiT Decode Video",
            category=CATEGORY,
            description="Turns video latents into frames, a few at a time, so that long clips fit into memory. If "
            "memory runs out, it retries with fewer.",
            search_aliases=["vae decode", "video decode"],
            inputs=[
                model_input(),
                io.Latent.Input(
                    "video",
                    tooltip="The video latents of JointDiT Sample, or frames from the stock VAE Encode with "
                    "Stable Video Diffusion's VAE.",
                ),
                io.Int.Input(
                    "chunk_size",
                    default=8,
                    min=1,
                    max=256,
                    tooltip="Frames decoded at once. Fewer need less memory; frames of a chunk look a little more "
                    "alike than those of two.",
                ),
                io.Int.Input(
                    "overlap",
                    default=0,
                    min=0,
                    max=255,
                    tooltip="Frames decoded in both of two neighbouring chunks and blended, which hides the seam. Less "
                    "than chunk_size.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    display_name="images",
                    tooltip="The frames; of several clips, one batch of frames after the other.",
                    is_output_list=True,
                )
            ],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        from .work.decode import decode_video

        return io.NodeOutput(decode_video(**given))


class DecodeAudio(io.ComfyNode):
    """Audio latents to sound as long as the video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTDecodeAudio",
            display_name="JointDiT Decode Audio",
            category=CATEGORY,
            description="Turns audio latents into sound that lasts exactly as long as the video.",
            search_aliases=["vocoder", "audio decode", "sound"],
            inputs=[
                model_input(),
                io.Latent.Input("audio", tooltip="The audio latents of JointDiT Sample."),
            ],
            outputs=[
                io.Audio.Output(
                    "audio",
                    display_name="audio",
                    tooltip="The sound at 16 kHz; of several clips, one after the other.",
                    is_output_list=True,
                )
            ],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        from .work.decode import decode_audio

        return io.NodeOutput(decode_audio(**given))
