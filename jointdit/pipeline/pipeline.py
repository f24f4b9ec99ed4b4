"""Image in, sounding clip out: the only module that composes the others.

image -> conditions -> latents -> denoiser -> samplers -> decode -> clip
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AudioLDM2Pipeline,
    AudioLDM2ProjectionModel,
    AudioLDM2UNet2DConditionModel,
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from transformers import (
    ClapModel,
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    GPT2LMHeadModel,
    RobertaTokenizer,
    SpeechT5HifiGan,
    T5EncoderModel,
    T5Tokenizer,
)

from ..checkpoints.experts import AudioHeads, load_audio_expert, load_video_expert
from ..checkpoints.folders import (
    CLASSES,
    OPTIONAL,
    joint_block_settings,
    load_components,
    load_joint_blocks,
    read_index,
    resolve,
    save_components,
    save_joint_blocks,
)
from ..diffusion import samplers
from ..diffusion.denoiser import JointDenoiser
from ..diffusion.guidance import GuidedDenoiser, JointCFG
from ..diffusion.schedules import NoiseClock
from ..diffusion.sync_guidance import SyncedDenoiser, SyncGuidance, loudness_readout
from ..encoders.autoencoders import AudioAutoencoder, VideoAutoencoder, layout_of
from ..encoders.conditioning import (
    TextEmbeddings,
    add_image_residual,
    encode_audioldm2_text,
    encode_clip_image,
    encode_clip_text,
    join,
    pad_text,
    without_image,
)
from ..errors import InputError
from ..latents import ClipShape, JointLatents
from ..media import MAX_BYTES, Clip, exact_fps, fit_audio, fit_image, read_image, resample_audio
from ..models.experts.attention import shorten_cross_attention
from ..models.experts.temporal import flatten_temporal_convolutions
from ..models.joint_block import JointBlocks
from ..models.model import Conditioning, JointDiTModel
from ..runtime.float8 import is_float8, store_in_float8
from ..runtime.memory import PRESETS, Memory, chunk_feed_forward
from ..runtime.offload import Offloader
from ..runtime.speed import Speed, set_speed

Picture = np.ndarray | Image.Image | str | os.PathLike
Callback = Callable[[str, int, int], None]
Generators = torch.Generator | list[torch.Generator] | None  # a list: one for each picture
LOUDEST = 0.97  # leaves room for what AAC adds
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "projection_model", "language_model")
SAMPLERS = {"euler": samplers.euler, "heun": samplers.heun, "dpmpp_2m": samplers.dpmpp_2m}


@dataclass(frozen=True)
class Defaults:
    """What a model does where the caller says nothing. Stored in `model_index.json`."""

    frames: int = 14
    fps: str = "7"
    height: int = 320
    width: int = 576
    motion_bucket: float = 127
    noise_augmentation: float = 0.02
    steps: int = 25
    audio_substeps: int = 1
    video_temperature: float = 1.0
    hold_first_frame: bool = False  # the clip starts with the picture itself, for models that were trained so
    sigmas: list[float] | None = None  # the video's own `steps` noise levels, and 0; None is the scheduler's
    audio_grid: str = "even"
    audio_start: float | None = None  # first timestep of this model's own audio grid; None is AudioLDM2's
    guidance: dict[str, Any] = field(default_factory=dict)  # of `JointCFG`

    def __post_init__(self) -> None:
        """Raises TypeError for a value of another kind, as it may stand in a file."""
        kinds = {"int": int, "bool": bool, "float": int | float, "float | None": int | float | None, "str": str}
        kinds["list[float] | None"] = list | None
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, kinds.get(each.type, dict)):
                raise TypeError(f"{each.name} is {value!r}")
        JointCFG(**self.guidance)


@dataclass(frozen=True)
class Conditions:
    """Both sides of guidance, B samples each: the picture with its text, and neither (or the negative text)."""

    conditional: Conditioning
    unconditional: Conditioning
    shape: ClipShape


class JointDiTPipeline(DiffusionPipeline):
    """Turns a picture, and a text if wanted, into a clip whose sound belongs to it.

    Components are those of `checkpoints.CLASSES`; `model` joins the two UNets and the Joint Blocks.
    """

    _residence: Offloader | None = None  # where components rest, if offloaded
    _optional_components = list(OPTIONAL)

    def __init__(
        self,
        video_vae: AutoencoderKLTemporalDecoder,
        video_unet: UNetSpatioTemporalConditionModel,
        video_scheduler: EulerDiscreteScheduler,
        image_encoder: CLIPVisionModelWithProjection,
        feature_extractor: CLIPImageProcessor,
        audio_vae: AutoencoderKL,
        vocoder: SpeechT5HifiGan,
        audio_unet: AudioLDM2UNet2DConditionModel,
        audio_scheduler: DDIMScheduler,
        joint_blocks: JointBlocks,
        tokenizer: CLIPTokenizer | RobertaTokenizer,
        text_encoder: CLIPTextModel | ClapModel,
        tokenizer_2: T5Tokenizer | None = None,
        text_encoder_2: T5EncoderModel | None = None,
        projection_model: AudioLDM2ProjectionModel | None = None,
        language_model: GPT2LMHeadModel | None = None,
        defaults: Defaults = Defaults(),  # noqa: B008, frozen
    ) -> None:
        super().__init__()
        given = locals()
        self.register_modules(**{name: given[name] for name in CLASSES})
        self.defaults = defaults
        self.model = JointDiTModel(self.video_unet, self.audio_unet, self.joint_blocks)
        flatten_temporal_convolutions(self.video_unet)
        flatten_temporal_convolutions(self.video_vae)
        shorten_cross_attention(self.video_unet)
        self.video_codec = VideoAutoencoder.of(self.video_vae, self.video_unet)
        self.audio_codec = AudioAutoencoder(self.audio_vae, self.vocoder)
        self.layout = layout_of(self.video_codec, self.audio_codec)
        self.memory = Memory()

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        dtype: torch.dtype = torch.float32,
        local_files_only: bool = True,
        joint: str | os.PathLike[str] | None = None,
    ) -> JointDiTPipeline:
        """Loads "tiny", a model folder, or with `local_files_only=False` a model from the Hugging Face Hub.

        joint: a Joint Block file that was trained for this model, to take the place of its own.
        Raises InputError for an unknown model and for weights that are missing, unknown, misshapen or damaged.
        """
        folder = resolve(name, local_files_only)
        index = read_index(folder)
        try:
            defaults = Defaults(**index.get("defaults", {}))
        except TypeError as error:
            raise InputError(f"{folder}: defaults in model_index.json: {error}") from error
        pipe = cls(**load_components(folder, index, dtype), defaults=defaults)
        if joint is not None:
            pipe.load_joint_blocks(joint)
        return pipe

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes a model folder that `from_pretrained` reads; beside first, then renamed."""
        if is_float8(self.video_unet):
            raise InputError(
                "the weights are stored in eight bits, which cannot be undone; save the model as it was loaded"
            )
        index = {"_class_name": "JointDiTPipeline", "defaults": asdict(self.defaults)}
        save_components(Path(folder), {name: getattr(self, name) for name in CLASSES}, index)

    @classmethod
    def from_experts(
        cls,
        video: str | os.PathLike[str],
        audio: str | os.PathLike[str],
        joint: str | os.PathLike[str] | None = None,
        dtype: torch.dtype = torch.float32,
        local_files_only: bool = True,
        frames: int | None = None,
        audio_heads: AudioHeads = "published",
    ) -> JointDiTPipeline:
        """Joins Stable Video Diffusion and AudioLDM2.

        video: a folder in diffusers' layout, a Hub name, or the single file of ComfyUI (`svd.safetensors`).
        audio: a folder in diffusers' layout or a Hub name, of any variant of AudioLDM2.
        joint: a Joint Block file; without one they start as the identity, and the clip is the two experts' own.
        local_files_only: False fetches what is not here from the Hugging Face Hub.
        frames: how many a single file was made for, if its name does not tell.
        audio_heads: attention heads of AudioLDM2's UNet, as in its published config or in its authors' code.

        Raises InputError that names the file, for weights that are missing, unknown, misshapen or damaged.
        """
        components = {
            **load_video_expert(video, dtype, local_files_only, frames),
            **load_audio_expert(audio, dtype, local_files_only, audio_heads),
        }
        blocks = load_joint_blocks(Path(joint), dtype) if joint else identity_joint_blocks(components).to(dtype)
        made_for = components["video_unet"].config.num_frames
        return cls(**components, joint_blocks=blocks, defaults=Defaults(frames=made_for))

    def save_joint_blocks(self, path: str | os.PathLike[str]) -> None:
        """Writes a Joint Block file for `from_pretrained(joint=...)` and `from_experts(joint=...)`."""
        save_joint_blocks(self.joint_blocks, Path(path))

    def load_joint_blocks(self, path: str | os.PathLike[str]) -> None:
        """Takes the weights of a Joint Block file. Raises InputError if they are made for another model."""
        given = load_joint_blocks(Path(path))
        ours, theirs = (joint_block_settings(blocks) for blocks in (self.joint_blocks, given))
        if other := [name for name in ours if ours[name] != theirs[name]]:
            raise InputError(
                f"{path}: made for another model: {other[0]} is {theirs[other[0]]} there and {ours[other[0]]} here"
            )
        self.joint_blocks.load_state_dict(given.state_dict())

    def set_memory(self, memory: Memory | str, device: torch.device | str | None = None) -> None:
        """Where weights rest and how much is computed at once: settings, or the name of some of `memory.PRESETS`.

        device: where to compute; where the model is now if None. Raises InputError for an unknown name.
        """
        if isinstance(memory, str):
            if memory not in PRESETS:
                raise InputError(f"memory {memory!r}: give one of {', '.join(PRESETS)}")
            memory = PRESETS[memory]
        unets = (self.video_unet, self.audio_unet)
        if is_float8(self.video_unet) and not memory.float8:
            raise InputError("the weights are stored in eight bits, which cannot be undone; load the model again")
        device = torch.device(device or self.device)
        if self._residence is not None:
            self._residence.end()
            self._residence = None
        if memory.float8 and not is_float8(self.video_unet):
            for unet in unets:
                store_in_float8(unet)
        chunk_feed_forward(self.video_unet, memory.feed_forward_chunks)
        self.joint_blocks.set_memory(memory.query_chunk, memory.video_pool)
        if memory.offload == "none":
            self.to(device)
        else:
            modules = {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}
            self._residence = Offloader(modules, device, ["video_unet"] if memory.offload == "stage" else [])
        self.memory = memory

    def set_speed(self, speed: Speed) -> None:
        """Faster ways to the same numbers, of a model that is where it computes (`speed.Speed`).

        Raises InputError where the device has no streams, and for compiled blocks that would have to come and go.
        """
        if speed.compile and self.memory.offload == "stage":
            raise InputError("compile: the blocks are offloaded by stage; offload by component, or leave one out")
        set_speed(self.model, speed, self.device)

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str = "cuda") -> None:
        """diffusers' own name for `set_memory` with `offload="component"`. (Its hooks would not see how the joint model
        calls its UNets.)"""
        device = torch.device(device) if gpu_id is None else torch.device(device, gpu_id)
        self.set_memory(replace(self.memory, offload="component"), device)

    def enable_sequential_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str = "cuda") -> None:
        """diffusers' own name for `set_memory` with `offload="stage"`."""
        device = torch.device(device) if gpu_id is None else torch.device(device, gpu_id)
        self.set_memory(replace(self.memory, offload="stage"), device)

    def using(self, *names: str) -> AbstractContextManager[None]:
        """These components are on the device, wherever they rest."""
        return self._residence.using(*names) if self._residence else nullcontext()

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes."""
        return self._residence.device if self._residence else super().device

    @property
    def guidance(self) -> JointCFG:
        """This model's own guidance."""
        return JointCFG(**self.defaults.guidance)

    # What a clip is made of, in order. Each step stands alone, so that the nodes can show them one by one.

    def shape(
        self,
        frames: int | None = None,
        fps: Fraction | float | str | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> ClipShape:
        """The asked shape, the model's defaults where None. Raises InputError with the nearest fitting size."""
        given = self.defaults
        frames = given.frames if frames is None else frames
        shape = ClipShape(
            frames,
            exact_fps(given.fps if fps is None else fps),
            given.height if height is None else height,
            given.width if width is None else width,
        )
        if frames < 1:
            raise InputError(f"frames is {frames}, but must be at least 1")
        factor = self.layout.video_factor
        if shape.height % factor or shape.width % factor or min(shape.height, shape.width) < factor:
            nearest = "x".join(str(max(1, round(side / factor)) * factor) for side in (shape.width, shape.height))
            raise InputError(
                f"size is {shape.width}x{shape.height}, but both sides must be multiples of {factor}; use {nearest}"
            )
        if shape.bytes > MAX_BYTES:
            raise InputError(
                f"{frames} frames of {shape.width}x{shape.height} are {shape.bytes / 2**30:.0f} GiB, but at most "
                f"{MAX_BYTES // 2**30} are made at once; ask for fewer or smaller ones"
            )
        if self.layout.audio_length(shape) < 2:
            raise InputError(
                f"{frames} frames at {shape.fps} fps last {float(shape.seconds):.3f} s: too short for sound"
            )
        return shape

    @torch.no_grad()
    def condition(
        self,
        images: Sequence[Picture],
        prompts: Sequence[str | None],
        negative_prompts: Sequence[str | None],
        shape: ClipShape,
        generator: Generators = None,
        fit: str = "cover",
        motion_bucket: float | None = None,
        noise_augmentation: float | None = None,
    ) -> Conditions:
        """Encodes B pictures and texts. The generator's first draw is the noise on the picture, as in diffusers."""
        given = self.defaults
        motion_bucket = given.motion_bucket if motion_bucket is None else motion_bucket
        noise_augmentation = given.noise_augmentation if noise_augmentation is None else noise_augmentation
        device, dtype = self.device, self.video_unet.dtype
        fitted = np.stack([fit_image(as_picture(image), shape.height, shape.width, fit) for image in images])
        pixels = rearrange(torch.from_numpy(fitted), "b h w c -> b c h w").float() / 127.5 - 1
        noise = randn_tensor(pixels.shape, generator=generator)
        pixels, noise = pixels.to(device), noise.to(device)
        with self.using("video_vae"):
            latents = self.video_codec.encode_image(pixels + noise_augmentation * noise)
        with self.using("image_encoder"):
            image_embeds = encode_clip_image(self.feature_extractor, self.image_encoder, pixels)

        without_prompt = torch.tensor([prompt is None for prompt in prompts], device=device)
        with self.using(*TEXT_ENCODERS):
            positive = self.encode_text([prompt or "" for prompt in prompts])
            negative = self.encode_text([prompt or "" for prompt in negative_prompts], [each or "" for each in prompts])
        length = max(positive.audio_embeds_1.shape[1], negative.audio_embeds_1.shape[1])
        both = []
        for text in (pad_text(positive, length), pad_text(negative, length)):
            both.append(join(image_embeds, latents, text, shape.fps, motion_bucket, noise_augmentation).to(dtype))
        with self.using("joint_blocks"):
            conditional = add_image_residual(self.joint_blocks, both[0], without_prompt)
        return Conditions(conditional, without_image(both[1]), shape)

    def encode_text(self, texts: Sequence[str], beside: Sequence[str] | None = None) -> TextEmbeddings:
        """Texts through this model's own encoders, each distinct one once.

        beside: the texts that these are the negatives of, as `encode_audioldm2_text` has it.
        """
        if isinstance(self.text_encoder, CLIPTextModel):
            distinct = list(dict.fromkeys(texts))
            encoded = encode_clip_text(self.tokenizer, self.text_encoder, distinct)
            return encoded.select([distinct.index(text) for text in texts])
        parts = {name: getattr(self, name) for name in (*TEXT_ENCODERS, "tokenizer", "tokenizer_2", "vocoder")}
        encoders = AudioLDM2Pipeline(
            vae=self.audio_vae, unet=self.audio_unet, scheduler=self.audio_scheduler, feature_extractor=None, **parts
        )
        pairs = list(zip(texts, beside or [""] * len(texts), strict=True))
        once = {pair: encode_audioldm2_text(encoders, *pair) for pair in dict.fromkeys(pairs)}
        return TextEmbeddings.cat([once[pair] for pair in pairs])

    @torch.no_grad()
    def encode_video(
        self, video: Clip, shape: ClipShape, fewer: bool, fit: str = "cover"
    ) -> tuple[np.ndarray, ClipShape, Tensor]:
        """A video that is given: its first frame, uint8 [H, W, 3], the shape, and scaled latents [1, F, C, h, w].

        Frames are taken at the shape's rate. fewer: a shorter video makes a shorter shape, instead of an InputError.
        """
        there = int(video.seconds * shape.fps)
        if there < shape.frames:
            if not fewer:
                raise InputError(
                    f"the video lasts {float(video.seconds):.2f} s, {there} frames; {shape.frames} are asked"
                )
            shape = self.shape(there, shape.fps, shape.height, shape.width)
        middles = [int((index + Fraction(1, 2)) / shape.fps * video.fps) for index in range(shape.frames)]
        frames = np.stack([fit_image(video.frames[index], shape.height, shape.width, fit) for index in middles])
        pixels = rearrange(torch.from_numpy(frames), "f h w c -> 1 f c h w").float() / 127.5 - 1
        with self.using("video_vae"):
            return frames[0], shape, self.video_codec.encode_video(pixels.to(self.device))

    @torch.no_grad()
    def encode_audio(self, samples: np.ndarray, rate: int, shape: ClipShape) -> Tensor:
        """A sound that is given, float32 [channels, n], as scaled latents [1, C, l, m] of the shape's duration."""
        mono = resample_audio(samples.mean(0, keepdims=True), rate, self.layout.sample_rate)
        fitted = torch.from_numpy(fit_audio(mono, shape.samples(self.layout.sample_rate)))
        with self.using("audio_vae"):
            return self.audio_codec.encode_audio(fitted.to(self.device))

    @torch.no_grad()
    def sample(
        self,
        conditions: Conditions,
        steps: int | None = None,
        sigmas: Tensor | None = None,
        sampler: str = "euler",
        guidance: JointCFG | None = None,
        audio_grid: str | Tensor | None = None,
        audio_substeps: int | None = None,
        video_temperature: float | None = None,
        generator: Generators = None,
        max_batch: int | None = None,
        callback: samplers.Callback | None = None,
        video_latents: Tensor | None = None,
        audio_latents: Tensor | None = None,
        isolated: bool = False,
        sync: SyncGuidance | None = None,
    ) -> JointLatents:
        """Scaled latents of both modalities, float32. Noise is drawn on the generator's device, the video's first.

        steps, or sigmas: the video's noise levels, high to low.    sampler: one of `SAMPLERS`.
        audio_grid: "even", "coupled", "trailing" or timesteps (`NoiseClock.grid`); the model's own where None.
        video_temperature: 0 to 2, multiplies the video's initial noise (`samplers.initial_noise`).
        callback: called after each step with (steps done, steps, clean estimates).
        video_latents or audio_latents: this modality is given, scaled, and only the other one is sampled.
        isolated: the modalities never see each other: what the same weights make without their joint attention.
        sync: pulls the sound to when the picture moves, without training; not at all where None.
        """
        if video_latents is not None and audio_latents is not None:
            raise InputError("both the video and the audio are given: nothing is left to sample; leave one out")
        if sync is not None and audio_latents is not None:
            raise InputError("sync pulls the sound, but the sound is given; leave one out")
        if sampler not in SAMPLERS:
            raise InputError(f"sampler {sampler!r}: give one of {', '.join(SAMPLERS)}")
        if video_temperature is None:
            video_temperature = self.defaults.video_temperature
        if not 0 <= video_temperature <= 2:
            raise InputError(
                f"video temperature is {video_temperature}, but must be from 0 to 2; 1 is the plain sampler"
            )
        own = self.defaults
        if steps is None and sigmas is None:
            steps, sigmas = (own.steps, None) if own.sigmas is None else (None, torch.tensor(own.sigmas))
        hold = "video" if video_latents is not None else "audio" if audio_latents is not None else None
        clock = NoiseClock(self.video_scheduler, self.audio_scheduler)
        grid = clock.grid(
            None if sigmas is not None else steps,
            sigmas,
            own.audio_grid if audio_grid is None else audio_grid,
            own.audio_substeps if audio_substeps is None else audio_substeps,
            hold,
            own.audio_start if audio_grid is None else None,
        )
        shape, batch = conditions.shape, len(conditions.conditional.fps)
        noise = JointLatents(
            randn_tensor(self.layout.video_shape(shape, batch), generator=generator).to(self.device),
            randn_tensor(self.layout.audio_shape(shape, batch), generator=generator).to(self.device),
        )
        start = samplers.initial_noise(noise, grid, video_temperature)
        if video_latents is not None:
            start = samplers.hold_video(start, video_latents.to(self.device))
        if audio_latents is not None:
            start = samplers.hold_audio(start, audio_latents.to(self.device), grid)
        guidance = guidance or self.guidance
        denoise = GuidedDenoiser(
            JointDenoiser(self.model, clock, max_batch or self.memory.max_batch),
            guidance,
            conditions.conditional,
            conditions.unconditional,
            isolated,
        )
        if own.hold_first_frame and video_latents is None:
            first = conditions.conditional.image_latents.float() * self.video_vae.config.scaling_factor
            denoise = samplers.FirstFrameHeld(denoise, first)
        if sync is not None and sync.strength:
            with self.using("audio_vae"):
                denoise = SyncedDenoiser(denoise, sync, loudness_readout(self.audio_codec))
        with self.using("video_unet", "audio_unet", "joint_blocks"):
            return SAMPLERS[sampler](denoise, start, grid, callback)

    @torch.no_grad()
    def decode_video(
        self,
        latents: Tensor,
        chunk_size: int | None = None,
        overlap: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Scaled latents [B, F, C, h, w] -> uint8 [B, F, H, W, 3], `chunk_size` frames at a time (the memory settings'
        where None)."""
        chunk_size = self.memory.decode_chunk if chunk_size is None else chunk_size
        with self.using("video_vae"):
            return self.video_codec.decode_video(latents, chunk_size, overlap, progress).numpy()

    @torch.no_grad()
    def decode_audio(self, latents: Tensor, shape: ClipShape) -> np.ndarray:
        """Scaled latents [B, C, l, m] -> float32 [B, 1, samples], exactly as long as the frames.

        A sound whose peak would clip is made quieter as a whole.
        """
        samples = shape.samples(self.layout.sample_rate)
        with self.using("audio_vae", "vocoder"):
            waveform = self.audio_codec.decode_audio(latents, samples)
        loudest = waveform.abs().amax(dim=1, keepdim=True)
        return (waveform * (LOUDEST / loudest.clamp(min=LOUDEST)))[:, None].cpu().numpy()

    @torch.no_grad()
    def __call__(
        self,
        image: Picture | Sequence[Picture] | None = None,
        prompt: str | Sequence[str | None] | None = None,
        negative_prompt: str | Sequence[str | None] | None = None,
        *,
        video: Clip | None = None,
        audio: tuple[np.ndarray, int] | None = None,
        frames: int | None = None,
        fps: Fraction | float | str | None = None,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        sigmas: Tensor | None = None,
        sampler: str = "euler",
        guidance: JointCFG | None = None,
        audio_grid: str | Tensor | None = None,
        audio_substeps: int | None = None,
        video_temperature: float | None = None,
        fit: str = "cover",
        motion_bucket: float | None = None,
        noise_augmentation: float | None = None,
        decode_chunk_size: int | None = None,
        isolated: bool = False,
        sync: SyncGuidance | None = None,
        generator: Generators = None,
        callback: Callback | None = None,
    ) -> Clip | list[Clip]:
        """One picture becomes a `Clip`, a list of pictures a list of clips.

        video: instead of a picture: this video stays as it is, from its start, and gets a sound.
        audio: samples, float32 [channels, n], and their rate: the picture moves to this sound, which stays as it is.
        image: uint8 [H, W, 3], a PIL image or a path. Texts: one for all pictures, or a list as long as theirs.
        frames, fps, height, width, steps, guidance and the like: the model's own where None.
        isolated: picture and sound never see each other, for comparison.
        sync: pulls the sound to when the picture moves, without training.
        generator: fixes every random number. With one for each picture, a clip does not depend on those beside it.
        callback: called with (stage, done, total), from done 0 on; the stages are "sample" and "decode".
        """
        report = callback or (lambda stage, done, total: None)
        shape = self.shape(frames, fps, height, width)
        given: dict[str, Tensor] = {}
        if video is not None:
            if image is not None:
                raise InputError("both a picture and a video are given; the video's first frame is the picture")
            image, shape, given["video_latents"] = self.encode_video(video, shape, frames is None, fit)
        if image is None:
            raise InputError("no picture is given; give one, or a video")
        images = list(image) if isinstance(image, list | tuple) else [image]
        if audio is not None:
            given["audio_latents"] = self.encode_audio(*audio, shape).expand(len(images), -1, -1, -1)
        prompts, negative_prompts = (_one_each(text, len(images)) for text in (prompt, negative_prompt))
        conditions = self.condition(
            images, prompts, negative_prompts, shape, generator, fit, motion_bucket, noise_augmentation
        )
        rate = self.layout.sample_rate
        report("sample", 0, len(sigmas) - 1 if sigmas is not None else self.defaults.steps if steps is None else steps)
        latents = self.sample(
            conditions,
            steps,
            sigmas,
            sampler,
            guidance,
            audio_grid,
            audio_substeps,
            video_temperature,
            generator,
            callback=lambda done, total, _: report("sample", done, total),
            isolated=isolated,
            sync=sync,
            **given,
        )
        if video is not None:
            sound = self.decode_audio(latents.audio, shape)[0]
            kept = video.frames[: max(1, round(shape.seconds * video.fps))]
            return Clip(kept, video.fps, fit_audio(sound, round(len(kept) / video.fps * rate)), rate)
        pictures = self.decode_video(
            latents.video, decode_chunk_size, progress=lambda done, total: report("decode", done, total)
        )
        if audio is not None:
            samples, rate = audio
            sounds = [fit_audio(samples, shape.samples(rate))] * len(images)
        else:
            sounds = self.decode_audio(latents.audio, shape)
        clips = [
            Clip(*pair, sample_rate=rate) for pair in zip(pictures, [shape.fps] * len(images), sounds, strict=True)
        ]
        return clips if isinstance(image, list | tuple) else clips[0]


def as_picture(image: Picture) -> np.ndarray:
    """uint8 [H, W, 3] of an array, a PIL image or a path."""
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    return read_image(image)


def _one_each(text: str | Sequence[str | None] | None, count: int) -> list[str | None]:
    texts = [text] * count if text is None or isinstance(text, str) else list(text)
    if len(texts) != count:
        raise InputError(f"{len(texts)} texts for {count} pictures; give one for all, or one for each")
    return texts


def identity_joint_blocks(components: dict[str, Any]) -> JointBlocks:
    """Joint Blocks that fit these two experts, untrained: they change nothing."""
    video, audio = components["video_unet"].config, components["audio_unet"].config
    layout = layout_of(
        VideoAutoencoder.of(components["video_vae"], components["video_unet"]),
        AudioAutoencoder(components["audio_vae"], components["vocoder"]),
    )
    generated, sequence = components["language_model"].config.n_embd, components["text_encoder_2"].config.d_model
    widths = [(*config.block_out_channels[1:], config.block_out_channels[-1]) for config in (video, audio)]
    width = video.block_out_channels[1]
    return JointBlocks(
        stages=tuple(range(1, len(widths[0]) + 1)),
        video_channels=widths[0],
        audio_channels=widths[1],
        width=width,
        head_dim=64 if width % 64 == 0 else 16,
        image_dim=components["image_encoder"].config.projection_dim,
        text_dim=generated,
        audio_dims=(generated, sequence),
        audio_latents_per_second=layout.audio_latents_per_second,
    ).eval()
