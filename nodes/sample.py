"""From noise to the latents of a clip."""

from __future__ import annotations

from typing import Literal, get_args

from comfy_api.latest import io
from einops import rearrange
from torch import Tensor

from ..jointdit.diffusion.guidance import JointCFG
from ..jointdit.diffusion.schedules import AudioGrid
from ..jointdit.diffusion.sync_guidance import STRONGEST, SyncGuidance
from ..jointdit.errors import InputError
from ..jointdit.latents import JointLatents
from ..jointdit.pipeline import SamplingSettings
from ..jointdit.pipeline.preview import FastDecoder
from ..jointdit.pipeline.settings import SAMPLERS
from .memory import DENOISING, ManagedModel, give_to_autograd
from .progress import contact_sheet
from .sockets import CATEGORY, CLIP_KEY, Guide, Prepared, PreparedClips, model_input

OWN_GRID = "model's own"
OWN_SYNC = -1.0
LOWEST_START = 0.1  # of the model's own first sigma: what starts lower was made for another model


class Sample(io.ComfyNode):
    """Denoises video and sound together, with a live preview."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTSample",
            display_name="JointDiT Sample",
            category=CATEGORY,
            description="Denoises the video and its sound together, or one of them where the other is given. While "
            "it runs it shows some frames side by side.",
            search_aliases=["ksampler", "joint sampler", "video and audio sampler"],
            inputs=[
                model_input(),
                Prepared.Input("conditions", tooltip="From JointDiT Condition."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip="Fixes everything random: the same number gives the same clip.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=999,
                    tooltip="Denoising steps: more is finer and slower. 0: the model's own (experts: 25). Not read "
                    "where sigmas are given.",
                ),
                io.Combo.Input(
                    "sampler",
                    options=list(SAMPLERS),
                    default="euler",
                    tooltip="euler is diffusers' own for both experts. dpmpp_2m needs fewer steps. heun computes every "
                    "step twice. lcm is for experts that were finetuned to few steps: 4 to 8, on levels of its own.",
                ),
                io.Int.Input(
                    "audio_substeps",
                    default=0,
                    min=0,
                    max=100,
                    tooltip="Steps of the sound in each step of the video. They cost little. 0: the model's own.",
                ),
                io.Combo.Input(
                    "audio_grid",
                    options=[OWN_GRID, *get_args(AudioGrid)],
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
                ),
                io.Float.Input(
                    "sync",
                    default=0.0,
                    min=OWN_SYNC,
                    max=STRONGEST,
                    step=0.1,
                    tooltip="Pulls the sound to when the picture moves, without any training: 0.5 is a good start, 0 "
                    "is off. -1: 0.5 where the Joint Blocks are the identity and so do nothing for it, else off.",
                    optional=True,  # graphs that were saved before this input was added stay valid
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
    def execute(
        cls,
        model: ManagedModel,
        conditions: PreparedClips,
        seed: int,
        steps: int,
        sampler: str,
        audio_substeps: int,
        audio_grid: AudioGrid | Literal["model's own"],
        video_temperature: float,
        guidance: JointCFG | None = None,
        sigmas: Tensor | None = None,
        fresh_noise: float = -1.0,
        sync: float = 0.0,
    ) -> io.NodeOutput:
        pipe, prepared = model.pipe, conditions.conditions
        strength = sync
        if sync == OWN_SYNC:
            strength = SyncGuidance().strength if model.identity and prepared.held != "audio" else 0.0
        settings = SamplingSettings(
            steps=None if sigmas is not None else steps or None,
            sigmas=sigmas,
            sampler=sampler,
            guidance=guidance,
            audio_grid=None if audio_grid == OWN_GRID else audio_grid,
            audio_substeps=audio_substeps or None,
            video_temperature=None if video_temperature < 0 else video_temperature,
            fresh_noise=None if fresh_noise < 0 else fresh_noise,
            sync=SyncGuidance(strength) if strength else None,
        )
        if sigmas is not None and prepared.held != "video":
            _check_start(float(sigmas[0]), float(pipe.grid(SamplingSettings()).video_sigmas[0]))
        total, memory = pipe.grid(settings, prepared.held).steps, prepared.batch * model.pass_memory(prepared.shape)
        progress = model.start((*DENOISING, "audio_vae") if strength else DENOISING, total, memory)
        if strength:
            give_to_autograd(pipe.audio_vae)  # for its loudness readout
        picture = prepared.conditional.image_latents[0] * pipe.video_vae.config.scaling_factor
        decode = FastDecoder(picture, conditions.pictures[0])

        def report(done: int, total: int, estimate: JointLatents) -> None:
            progress(done, total, contact_sheet(decode(estimate.video[0])))

        with model.interruptible(DENOISING):
            latents = pipe.sample(
                prepared,
                settings,
                generator=prepared.generator(seed),
                max_batch=model.rows_that_fit(prepared.shape),
                callback=report,
            )
        if not (latents.video.isfinite().all() and latents.audio.isfinite().all()):
            raise InputError(
                "the clip left the range of its numbers; take precision bfloat16 or float32 in the load node, or lower "
                "scales in JointDiT JointCFG"
            )
        unscaled = latents.video / pipe.video_vae.config.scaling_factor
        video = {"samples": rearrange(unscaled, "b f c h w -> (b f) c h w").cpu(), CLIP_KEY: prepared.shape}
        audio = {"samples": latents.audio.contiguous().cpu(), "type": "audio", CLIP_KEY: prepared.shape}
        return io.NodeOutput(video, audio)


def _check_start(asked: float, own: float) -> None:
    """Raises InputError for first noise levels of another model, such as the 14.6 of Stable Diffusion 1.5."""
    if asked < LOWEST_START * own:
        raise InputError(
            f"sigmas start at {asked:g}, but this model starts at {own:g}; in the scheduler node set sigma_max "
            f"{own:g} and sigma_min 0.002, or disconnect sigmas"
        )
