"""From noise to the latents of a clip."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..jointdit.options import highest, words
from .sockets import CATEGORY, OWN_GRID, OWN_SYNC, Guide, Prepared, model_input, own, sampler_input, seed_input

MAX_CLIPS = 64


class Sample(io.ComfyNode):
    """Denoises video and sound together, with a live preview."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTSample",
            display_name="JointDiT Sample",
            category=CATEGORY,
            description="Denoises the video and its sound together, or one of them where the other is given. While "
            "it runs the frames play, over the curve of the sound's loudness.",
            search_aliases=["ksampler", "joint sampler", "video and audio sampler"],
            inputs=[
                model_input(),
                Prepared.Input("conditions", tooltip="From JointDiT Condition."),
                seed_input(),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=999,
                    tooltip="Denoising steps: more is finer and slower. 0: the model's own (experts: 25). Not read "
                    "where sigmas are given.",
                    extra_dict=own(0, "steps"),
                ),
                sampler_input(),
                io.Int.Input(
                    "audio_substeps",
                    default=0,
                    min=0,
                    max=100,
                    tooltip="Steps of the sound in each step of the video. They cost little. 0: the model's own.",
                    extra_dict=own(0, "audio_substeps"),
                ),
                io.Combo.Input(
                    "audio_grid",
                    options=[OWN_GRID, *words("audio-grid")],
                    default=OWN_GRID,
                    tooltip="Noise levels of the sound. even: AudioLDM2's. coupled: always the level that the video "
                    "is at. trailing: the sound waits until the video is nearly done and then follows it.",
                    advanced=True,
                ),
                io.Float.Input(
                    "video_temperature",
                    default=-1.0,
                    min=-1.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Strength of the noise that the video starts from. Less than 1 hides grain and calms "
                    "motion; 1 is the plain sampler. -1: the model's own.",
                    advanced=True,
                    extra_dict=own(-1, "video_temperature"),
                ),
                Guide.Input(
                    "guidance", optional=True, tooltip="From JointDiT JointCFG. Left out: the model's own guidance."
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="The video's noise levels, high to low, from any scheduler node for Stable Video Diffusion "
                    "(Karras, AlignYourSteps), instead of steps.",
                ),
                io.Float.Input(
                    "fresh_noise",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the video's noise that each step replaces. More hides mistakes of earlier steps "
                    "and needs more steps; 0 is the plain sampler. -1: the model's own.",
                    advanced=True,
                    optional=True,
                    extra_dict=own(-1, "fresh_noise"),
                ),
                io.Float.Input(
                    "sync",
                    default=0.0,
                    min=OWN_SYNC,
                    max=highest("sync"),
                    step=0.1,
                    tooltip="Pulls the sound to when the picture moves, without any training: 0.5 is a good start, 0 "
                    "is off. -1: 0.5 where the Joint Blocks are the identity and so do nothing for it, else off.",
                    optional=True,  # graphs that were saved before this input was added stay valid
                    extra_dict=own(OWN_SYNC, label="where it is needed"),
                ),
                io.Int.Input(
                    "clips",
                    default=1,
                    min=1,
                    max=MAX_CLIPS,
                    tooltip="How many clips to make of each picture, with this seed and those that follow it.",
                    optional=True,
                ),
                io.Int.Input(
                    "reuse",
                    default=1,
                    min=1,
                    max=int(highest("reuse")),
                    tooltip="Run the whole video model in every so many-th step only, and most of it not in between: "
                    "faster, and a little less exact. 1 is always, exactly.",
                    optional=True,
                    advanced=True,
                ),
                io.Int.Input(
                    "reuse_layers",
                    default=0,
                    min=0,
                    max=int(highest("reuse-layers")),
                    tooltip="Where steps reuse: run no more than so many of the video model's last layers in every "
                    "step, which is faster and less exact. Stable Video Diffusion has 3, tiny 2. 0: its whole last "
                    "block. Not read where reuse is 1.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "video",
                    display_name="video",
                    tooltip="Latents of the video, for JointDiT Decode Video; those of Stable Video Diffusion for the "
                    "stock VAE Decode, too: all frames are one batch.",
                ),
                io.Latent.Output(
                    "audio", display_name="audio", tooltip="Latents of the sound, for JointDiT Decode Audio."
                ),
            ],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        from .work.sample import sample

        return io.NodeOutput(*sample(**given))
