"""The joint model: two whole UNets and the Joint Blocks between their stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

import torch
from diffusers import AudioLDM2UNet2DConditionModel, UNetSpatioTemporalConditionModel
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..latents import JointLatents
from .experts import AudioExpert, Call, ExpertState, VideoExpert, call_directly, expand_timestep
from .joint_block import JointBlocks, KeyValue, audio_tokens, video_tokens

V, A = TypeVar("V"), TypeVar("A")


@dataclass(frozen=True)
class Conditioning:
    """All that does not depend on the noise level, computed once per clip. B samples.

    video_embeds: [B, S, Dv], CLIP image embedding, cross attention of the video expert (S = 1 for SVD)
    added_time_ids: [B, 3], fps - 1, motion bucket, noise augmentation
    image_latents: [B, C, h, w], joined to the video's channels after scaling, repeated over frames (by the denoiser)
    audio_embeds: [B, S0, D0], `encoder_hidden_states` of the audio expert
    audio_embeds_1: [B, S1, D1], `encoder_hidden_states_1`        audio_mask_1: [B, S1], its mask, 1 keeps
    context_image: [B, Ni, Di], context_text: [B, Nt, Dt], context of the Joint Blocks
    fps: [B], the clock of the video tokens
    """

    video_embeds: Tensor
    added_time_ids: Tensor
    image_latents: Tensor
    audio_embeds: Tensor
    audio_embeds_1: Tensor
    audio_mask_1: Tensor
    context_image: Tensor
    context_text: Tensor
    fps: Tensor

    def select(self, index: Tensor) -> Conditioning:
        """The samples `index` [P], repeats allowed."""
        return Conditioning(*(getattr(self, field.name).index_select(0, index) for field in fields(self)))

    @staticmethod
    def cat(items: Sequence[Conditioning]) -> Conditioning:
        """All samples of all items, in order."""
        names = [field.name for field in fields(Conditioning)]
        return Conditioning(*(torch.cat([getattr(item, name) for item in items]) for name in names))

    def to(self, *args, **kwargs) -> Conditioning:
        """`Tensor.to` on every field; the clock stays float32."""
        moved = {field.name: getattr(self, field.name).to(*args, **kwargs) for field in fields(self)}
        return Conditioning(**moved | {"fps": self.fps.to(moved["fps"].device)})


@dataclass(frozen=True)
class Stem:
    """Both experts after In, before any Joint Block, with what the Joint Blocks need to go on."""

    video: ExpertState
    audio: ExpertState
    video_embedding: Tensor  # [B, W], AdaLN input
    audio_embedding: Tensor
    context: Tensor  # [B, S, W]
    fps: Tensor  # [B]

    def select(self, index: Tensor) -> Stem:
        """The samples `index` [P], repeats allowed: passes with the same conditions share In."""
        return Stem(*(_take(getattr(self, field.name), index) for field in fields(self)))


@dataclass(frozen=True)
class KeptVideo:
    """Video keys and values of every Joint Block, of the samples that are not isolated, for audio sub-steps."""

    blocks: tuple[KeyValue | None, ...]


def _take(value: ExpertState | Tensor, index: Tensor) -> ExpertState | Tensor:
    return value.index_select(0, index) if isinstance(value, Tensor) else value.select(index)


class JointDiTModel(nn.Module):
    """Stable Video Diffusion's and AudioLDM2's UNets, joined; `video_unet` and `audio_unet` are diffusers' classes.

    gradient_checkpointing: the backward pass computes the blocks of both UNets and the Joint Blocks again, instead of
    keeping what they computed. (AudioLDM2's own gradient checkpointing fails with masks, so it is done here for both.)
    audio_stream: a CUDA stream on which, outside training, the audio expert runs beside the video expert.
    """

    def __init__(
        self,
        video_unet: UNetSpatioTemporalConditionModel,
        audio_unet: AudioLDM2UNet2DConditionModel,
        joint_blocks: JointBlocks,
    ) -> None:
        super().__init__()
        experts = len(video_unet.down_blocks)
        if experts != len(audio_unet.down_blocks):
            raise ValueError(
                f"the video UNet has {experts} down blocks and the audio UNet "
                f"{len(audio_unet.down_blocks)}: Joint Blocks stand after the same stages of both"
            )
        stages = list(joint_blocks.config.stages)
        if stages != sorted(set(stages) & set(range(experts + 1))):
            raise ValueError(f"stages {stages}: give rising numbers of 0 (In) to {experts} (mid)")
        self.video_unet = video_unet
        self.audio_unet = audio_unet
        self.joint_blocks = joint_blocks
        self._block_after = dict(zip(stages, joint_blocks.blocks, strict=True))
        self.gradient_checkpointing = False
        self.audio_stream: torch.cuda.Stream | None = None

    def _call(self, function: Call, *args: Any, **inputs: Any) -> Any:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *args, use_reentrant=False, **inputs)
        return call_directly(function, *args, **inputs)

    def _experts(self) -> tuple[VideoExpert, AudioExpert]:
        return VideoExpert(self.video_unet, self._call), AudioExpert(self.audio_unet, self._call)

    def _both(self, video: Callable[[], V], audio: Callable[[], A]) -> tuple[V, A]:
        """The two experts' parts of a stage. Both streams wait for each other before and after, and the video's part is
        launched first: so no memory that one stream still reads is given to the other."""
        stream = self.audio_stream
        if stream is None or torch.is_grad_enabled():
            return video(), audio()
        current = torch.cuda.current_stream(stream.device)
        stream.wait_stream(current)
        first = video()
        with torch.cuda.stream(stream):
            second = audio()
        current.wait_stream(stream)
        return first, second

    def forward(
        self,
        video: Tensor,
        audio: Tensor,
        video_timestep: Tensor | float,
        audio_timestep: Tensor | float,
        conditioning: Conditioning,
        isolated: bool | Tensor = False,
    ) -> JointLatents:
        """Raw UNet inputs to raw predictions.

        video [B, F, 2C, h, w], scaled and with the image latents on its channels; audio [B, C, l, m];
        video_timestep c_noise and audio_timestep index, [B] or scalar; isolated: bool or [B], the samples whose
        modalities do not see each other. Returns v [B, F, C, h, w] and epsilon [B, C, l, m].
        """
        stem = self.stem(video, audio, video_timestep, audio_timestep, conditioning)
        return self.trunk(stem, isolated)[0]

    def stem(
        self,
        video: Tensor,
        audio: Tensor,
        video_timestep: Tensor | float,
        audio_timestep: Tensor | float,
        conditioning: Conditioning,
    ) -> Stem:
        """In of both experts and the Joint Blocks' embeddings: all that does not depend on isolation."""
        cond = conditioning
        context = self.joint_blocks.embed_context(cond.context_image, cond.context_text)
        batch, device = video.shape[0], video.device
        c_noise, step = (expand_timestep(level, batch, device) for level in (video_timestep, audio_timestep))
        video_state, audio_state = self._both(
            partial(self._experts()[0].start, video, c_noise, cond.video_embeds, cond.added_time_ids),
            partial(self._start_audio, audio, step, cond),
        )
        return Stem(
            video=video_state,
            audio=audio_state,
            video_embedding=self.joint_blocks.embed_video_level(c_noise, context),
            audio_embedding=self.joint_blocks.embed_audio_level(step, context),
            context=context,
            fps=cond.fps,
        )

    def trunk(self, stem: Stem, isolated: bool | Tensor, keep: bool = False) -> tuple[JointLatents, KeptVideo | None]:
        """Experts with their Joint Blocks, then Out. With `keep`, also the video's keys and values for sub-steps."""
        video_expert, audio_expert = self._experts()
        video, audio = stem.video, stem.audio
        split = _split(isolated, stem.fps.shape[0], stem.fps.device)
        kept = []
        for stage in range(video_expert.stages):
            if stage:
                video, audio = self._both(
                    partial(video_expert.run, video, stage), partial(audio_expert.run, audio, stage)
                )
            if stage in self._block_after:
                delta_v, delta_a, key_value = self._join(stage, video, audio, stem, split)
                video, audio = _add_video(video, delta_v), _add_audio(audio, delta_a)
                if keep:
                    kept.append(key_value)
        prediction = JointLatents(*self._both(partial(video_expert.finish, video), partial(audio_expert.finish, audio)))
        return prediction, KeptVideo(tuple(kept)) if keep else None

    def watch(self, stem: Stem) -> KeptVideo:
        """What `trunk` keeps, without Out, to train audio sub-steps: the experts get no gradient, the video halves
        of the Joint Blocks do."""
        video_expert, audio_expert = self._experts()
        video, audio = stem.video, stem.audio
        split = _split(False, stem.fps.shape[0], stem.fps.device)
        kept = []
        for stage in range(video_expert.stages):
            if stage:
                with torch.no_grad():
                    video, audio = video_expert.run(video, stage), audio_expert.run(audio, stage)
            if stage in self._block_after:
                delta_v, delta_a, key_value = self._join(stage, video, audio, stem, split)
                video, audio = _add_video(video, delta_v.detach()), _add_audio(audio, delta_a.detach())
                kept.append(key_value)
        return KeptVideo(tuple(kept))

    def _join(
        self, stage: int, video: ExpertState, audio: ExpertState, stem: Stem, split: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, KeyValue]:
        """The Joint Block after `stage`."""
        return self._call(
            self._block_after[stage],
            video_tokens(video.hidden, stem.fps, video.level, video.rows),
            audio_tokens(audio.hidden, self.joint_blocks.config.audio_latents_per_second, audio.level),
            stem.video_embedding,
            stem.audio_embedding,
            stem.context,
            *split,
        )

    def audio_only(
        self,
        audio: Tensor,
        audio_timestep: Tensor | float,
        conditioning: Conditioning,
        kept: KeptVideo,
        isolated: bool | Tensor,
    ) -> Tensor:
        """The audio expert alone, its Joint Blocks attending to the video kept by `trunk` with the same `isolated`."""
        expert = self._experts()[1]
        context = self.joint_blocks.embed_context(conditioning.context_image, conditioning.context_text)
        batch, device = audio.shape[0], audio.device
        embedding = self.joint_blocks.embed_audio_level(expand_timestep(audio_timestep, batch, device), context)
        full, alone = _split(isolated, batch, device)
        state = self._start_audio(audio, audio_timestep, conditioning)
        blocks = iter(kept.blocks)
        for stage in range(expert.stages):
            if stage:
                state = expert.run(state, stage)
            if stage in self._block_after:
                tokens = audio_tokens(state.hidden, self.joint_blocks.config.audio_latents_per_second, state.level)
                block = self._block_after[stage]
                delta = self._call(block.audio_only, tokens, embedding, context, next(blocks), full, alone)
                state = _add_audio(state, delta)
        return expert.finish(state)

    def audio_alone(self, audio: Tensor, audio_timestep: Tensor | float, conditioning: Conditioning) -> Tensor:
        """The audio expert with its isolated Joint Blocks, for which no video is needed."""
        nothing = KeptVideo((None,) * len(self._block_after))
        return self.audio_only(audio, audio_timestep, conditioning, nothing, isolated=True)

    def _start_audio(self, audio: Tensor, timestep: Tensor | float, cond: Conditioning) -> ExpertState:
        return self._experts()[1].start(audio, timestep, cond.audio_embeds, cond.audio_embeds_1, cond.audio_mask_1)


def _split(isolated: bool | Tensor, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of the full and of the isolated samples. Flags on the host do not make it wait for the device."""
    flags = torch.as_tensor(isolated).reshape(-1).expand(batch).cpu()
    full, alone = (~flags).nonzero()[:, 0], flags.nonzero()[:, 0]
    return full.to(device), alone.to(device)


def _add_video(state: ExpertState, delta: Tensor) -> ExpertState:
    height, width = state.hidden.shape[-2:]
    delta = rearrange(delta, "b (f h w) c -> (b f) c h w", f=state.rows, h=height, w=width)
    return replace(state, hidden=state.hidden + delta)


def _add_audio(state: ExpertState, delta: Tensor) -> ExpertState:
    delta = rearrange(delta, "b (l m) c -> b c l m", l=state.hidden.shape[-2])
    return replace(state, hidden=state.hidden + delta)
