"""The components of a model: loading, saving, and where they are kept."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from ..checked import checked, placed
from ..checkpoints.adapter_files import adapter_files, fuse_adapter
from ..checkpoints.components import COMPONENTS, IDENTITY, INDEX, OPTIONAL
from ..checkpoints.experts import AudioHeads, load_audio_expert, load_video_expert
from ..checkpoints.folders import load_components, read_index, resolve, save_components
from ..checkpoints.joint_files import joint_block_settings, load_joint_blocks, save_joint_blocks
from ..diffusion.guidance import JointCFG
from ..diffusion.schedules import Modality, NoiseClock, SamplingGrid
from ..encoders.autoencoders import AudioAutoencoder, VideoAutoencoder, layout_of
from ..errors import InputError
from ..models.experts.attention import shorten_cross_attention
from ..models.experts.temporal import flatten_temporal_convolutions
from ..models.joint_block import JointBlocks
from ..models.joint_start import start_joint_blocks
from ..models.model import JointDiTModel
from ..runtime.float8 import is_float8, store_in_float8
from ..runtime.memory import PRESETS, Memory, chunk_feed_forward
from ..runtime.offload import Offloader
from ..runtime.speed import Speed, set_speed
from .settings import Defaults, SamplingSettings

if TYPE_CHECKING:
    # Only those that a model has are imported, by `load_components`.
    from diffusers import (
        AudioLDM2ProjectionModel,
        AudioLDM2UNet2DConditionModel,
        AutoencoderKL,
        AutoencoderKLTemporalDecoder,
        DDIMScheduler,
        EulerDiscreteScheduler,
        UNetSpatioTemporalConditionModel,
    )
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
    from typing_extensions import Self


class JointDiTComponents(DiffusionPipeline):
    """What `JointDiTPipeline` is made of: the components of `checkpoints.COMPONENTS` and the model's own settings.

    model: the two UNets and the Joint Blocks, joined.
    video_codec, audio_codec: the autoencoders, with the vocoder.
    layout: how they turn pixels and samples into latents.
    defaults: what the model does where a caller says nothing.
    memory: as `set_memory` left it.
    """

    _offloader: Offloader | None = None  # where components are kept, if offloaded
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
        self.register_modules(**{name: given[name] for name in COMPONENTS})
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
        adapters: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Loads "tiny", a model folder, or with `local_files_only=False` a model from the Hugging Face Hub.

        joint: a Joint Block file that was trained for this model, to take the place of its own, or "identity": blocks
        that have learned nothing, with which the clip is the two experts' own.
        adapters: a folder of low-rank adapters for its experts (`load_adapters`).
        Raises InputError for an unknown model, for weights that are missing, unknown, misshapen or damaged, and for
        defaults that no clip can be sampled with.
        """
        folder = resolve(name, local_files_only)
        index = read_index(folder)
        with placed(f"{folder}: defaults in {INDEX}"):
            defaults = checked(Defaults, index.get("defaults", {}))
        components = load_components(folder, index, dtype)
        with placed(folder):
            pipe = cls(**components, defaults=defaults)
        with placed(f"{folder}: defaults in {INDEX}"):
            pipe.grid(SamplingSettings())
        if joint == IDENTITY:
            start_joint_blocks(pipe.joint_blocks)
        elif joint is not None:
            pipe.load_joint_blocks(joint)
        if adapters is not None:
            pipe.load_adapters(adapters)
        return pipe

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes a model folder that `from_pretrained` reads; beside first, then renamed."""
        if is_float8(self.video_unet):
            raise InputError("the weights are stored in eight bits, which cannot be undone; save it as it was loaded")
        index = {"_class_name": "JointDiTPipeline", "defaults": asdict(self.defaults)}
        save_components(Path(folder), {name: getattr(self, name) for name in COMPONENTS}, index)

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
        adapters: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Joins Stable Video Diffusion and AudioLDM2.

        video: a folder in diffusers' layout, a Hub name, or the single file of ComfyUI (`svd.safetensors`).
        audio: a folder in diffusers' layout or a Hub name, of any variant of AudioLDM2.
        joint: a Joint Block file; without one, or with "identity", they have learned nothing, and the clip is the two
        experts' own.
        local_files_only: False fetches what is not here from the Hugging Face Hub.
        frames: how many a single file was made for, if its name does not tell.
        audio_heads: attention heads of AudioLDM2's UNet, as in its published config or in its authors' code.
        adapters: a folder of low-rank adapters for the experts (`load_adapters`).

        Raises InputError that names the file, for weights that are missing, unknown, misshapen or damaged.
        """
        components = {
            **load_video_expert(video, dtype, local_files_only, frames),
            **load_audio_expert(audio, dtype, local_files_only, audio_heads),
        }
        trained = joint if joint and joint != IDENTITY else None
        blocks = load_joint_blocks(Path(trained), dtype) if trained else identity_joint_blocks(components, dtype)
        made_for = components["video_unet"].config.num_frames
        pipe = cls(**components, joint_blocks=blocks, defaults=Defaults(frames=made_for))
        if adapters is not None:
            pipe.load_adapters(adapters)
        return pipe

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

    def load_adapters(self, folder: str | os.PathLike[str]) -> None:
        """Adds low-rank adapters to the experts' weights: `video.safetensors`, `audio.safetensors` or both, as Stage B
        and diffusers write them. What is loaded costs nothing afterwards, and cannot be taken out again.

        Raises InputError if the folder has none, or for those of another model.
        """
        for component, path in adapter_files(Path(folder)).items():
            self._fuse(component, path)

    def load_video_lora(self, path: str | os.PathLike[str], strength: float = 1.0) -> None:
        """Adds a LoRA file of Stable Video Diffusion to the video expert's weights, in any of the forms of
        `checkpoints.adapter_files`. It costs nothing afterwards, and cannot be taken out again.

        strength: 1 as it was trained.
        Raises InputError for a file that is damaged, is no LoRA, or is one of another model.
        """
        self._fuse("video_unet", Path(path), strength)

    def _fuse(self, component: str, path: Path, strength: float = 1.0) -> None:
        if is_float8(self.video_unet):
            raise InputError(f"{path}: the weights are stored in eight bits; load adapters before")
        fuse_adapter(getattr(self, component), path, strength)

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
        if self._offloader is not None:
            self._offloader.end()
            self._offloader = None
        if memory.float8 and not is_float8(self.video_unet):
            for unet in unets:
                store_in_float8(unet)
        chunk_feed_forward(self.video_unet, memory.feed_forward_chunks)
        self.joint_blocks.set_memory(memory.query_chunk, memory.video_pool)
        if memory.offload == "none":
            self.to(device)
        else:
            modules = {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}
            self._offloader = Offloader(modules, device, ["video_unet"] if memory.offload == "stage" else [])
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
        self.set_memory(replace(self.memory, offload="component"), _numbered(device, gpu_id))

    def enable_sequential_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str = "cuda") -> None:
        """diffusers' own name for `set_memory` with `offload="stage"`."""
        self.set_memory(replace(self.memory, offload="stage"), _numbered(device, gpu_id))

    def using(self, *names: str) -> AbstractContextManager[None]:
        """These components are on the device, wherever they are kept otherwise."""
        return self._offloader.using(*names) if self._offloader else nullcontext()

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes."""
        return self._offloader.device if self._offloader else super().device

    @property
    def clock(self) -> NoiseClock:
        """The noise levels of both modalities."""
        return NoiseClock(self.video_scheduler, self.audio_scheduler)

    @property
    def video_origin(self) -> float:
        """What a picture's latents are times this, the video is measured from (`conditioning.join`)."""
        return float(self.video_vae.config.scaling_factor) if self.defaults.around_picture else 0.0

    @property
    def guidance(self) -> JointCFG:
        """This model's own guidance."""
        return checked(JointCFG, self.defaults.guidance, key="guidance")

    def grid(self, settings: SamplingSettings, hold: Modality | None = None) -> SamplingGrid:
        """The noise levels of a sampling run (`SamplingSettings.grid`)."""
        return settings.grid(self.defaults, self.clock, hold)


def _numbered(device: torch.device | str, number: int | None) -> torch.device:
    device = torch.device(device)
    return device if number is None else torch.device(device.type, number)


def identity_joint_blocks(components: dict[str, Any], dtype: torch.dtype) -> JointBlocks:
    """Joint Blocks that fit these two experts, untrained: they change nothing."""
    video, audio = components["video_unet"].config, components["audio_unet"].config
    layout = layout_of(
        VideoAutoencoder.of(components["video_vae"], components["video_unet"]),
        AudioAutoencoder(components["audio_vae"], components["vocoder"]),
    )
    generated, sequence = components["language_model"].config.n_embd, components["text_encoder_2"].config.d_model
    widths = [(*config.block_out_channels[1:], config.block_out_channels[-1]) for config in (video, audio)]
    width = video.block_out_channels[1]
    blocks = JointBlocks(
        stages=tuple(range(1, len(widths[0]) + 1)),
        video_channels=widths[0],
        audio_channels=widths[1],
        width=width,
        head_dim=64 if width % 64 == 0 else 16,
        image_dim=components["image_encoder"].config.projection_dim,
        text_dim=generated,
        audio_dims=(generated, sequence),
        audio_latents_per_second=layout.audio_latents_per_second,
    )
    start_joint_blocks(blocks)
    nn.Module.to(blocks, dtype)  # diffusers' own `to` warns about layers that these do not have
    return blocks.eval()
