"""The joint model: two whole UNets and the Joint Blocks between their stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar, cast

import torch
from diffusers import AudioLDM2UNet2DConditionModel, UNetSpatioTemporalConditionModel
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from ..latents import JointLatents
from .experts import AudioExpert, Call, ExpertState, VideoCut, VideoExpert, call_directly, expand_timestep
from .joint_block import JointBlock, JointBlocks, KeyValue, Tokens, audio_tokens, video_tokens

V = TypeVar("V")
A = TypeVar("A")
S = TypeVar("S")
Both = tuple[ExpertState, ExpertState]  # video and audio between two stages


@dataclass(frozen=True)
class Conditioning:
    """All that does not depend on the noise level, computed once per clip. B samples.

    video_embeds: [B, S, Dv], CLIP image embedding, cross attention of the video expert (S = 1 for SVD)
    added_time_ids: [B, 3], fps - 1, motion bucket, noise augmentation
    image_latents: [B, C, h, w], joined to the video's channels after scaling, repeated over frames (by the denoiser)
    video_origin: [B, C, h, w], what the video's latents are measured from in every frame, float32: zeros for Stable
    Video Diffusion
    audio_embeds: [B, S0, D0], `encoder_hidden_states` of the audio expert
    audio_embeds_1: [B, S1, D1], `encoder_hidden_states_1`        audio_mask_1: [B, S1], its mask, 1 keeps
    context_image: [B, Ni, Di], context_text: [B, Nt, Dt], context of the Joint Blocks
    fps: [B], the clock of the video tokens
    """

    video_embeds: Tensor
    added_time_ids: Tensor
    image_latents: Tensor
    video_origin: Tensor
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
        """`Tensor.to` on every field; the clock and the origin stay float32."""
        moved = {field.name: getattr(self, field.name).to(*args, **kwargs) for field in fields(self)}
        exact = {name: getattr(self, name).to(moved[name].device) for name in ("fps", "video_origin")}
        return Conditioning(**moved | exact)


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
        tensors = (self.video_embedding, self.audio_embedding, self.context, self.fps)
        return Stem(
            self.video.select(index), self.audio.select(index), *(each.index_select(0, index) for each in tensors)
        )


@dataclass(frozen=True)
class KeptVideo:
    """What is kept of the video from a joint evaluation.

    blocks: keys and values of every Joint Block, of the samples that are not isolated, for audio sub-steps.
    deep: [B * F, C, h, w], what came up to a cut, for evaluations that run no more than what lies outside it.
    """

    blocks: tuple[KeyValue | None, ...]
    deep: Tensor | None = None

    def to(self, dtype: torch.dtype) -> KeptVideo:
        """The same in another precision."""
        blocks = tuple(kept and KeyValue(kept.key.to(dtype), kept.value.to(dtype)) for kept in self.blocks)
        return KeptVideo(blocks, self.deep if self.deep is None else self.deep.to(dtype))


class JointDiTModel(nn.Module):
    """Stable Video Diffusion's and AudioLDM2's UNets, joined; `video_unet` and `audio_unet` are diffusers' classes.

    gradient_checkpointing: the backward pass computes the blocks of both UNets and the Joint Blocks again, instead of
    keeping what they computed. (AudioLDM2's own gradient checkpointing fails with masks, so it is done here for both.)
    audio_stream: a CUDA stream on which, outside training, the audio expert runs beside the video expert.
    compiled: what the blocks were compiled with, as arguments of `nn.Module.compile`; None if they were not.
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
            raise InputError(
                f"the video UNet has {experts} down blocks and the audio UNet "
                f"{len(audio_unet.down_blocks)}: Joint Blocks stand after the same stages of both"
            )
        stages = list(joint_blocks.config["stages"])
        if stages != sorted(set(stages) & set(range(experts + 1))):
            raise InputError(f"stages {stages}: give rising numbers of 0 (In) to {experts} (mid)")
        self.video_unet = video_unet
        self.audio_unet = audio_unet
        self.joint_blocks = joint_blocks
        self._block_after = dict(zip(stages, cast("Iterable[JointBlock]", joint_blocks.blocks), strict=True))
        self.gradient_checkpointing = False
        self.audio_stream: torch.cuda.Stream | None = None
        self.compiled: dict[str, Any] | None = None

    def cut(self, layers: int | None) -> VideoCut:
        """`VideoExpert.cut`, its parts compiled where the blocks are. Raises InputError where the video's last up block
        has fewer layers."""
        cut = self._experts()[0].cut(layers)
        if self.compiled is not None:
            for block in (*cut.outer_down, *cut.inner_down, *cut.inner_up, *cut.outer_up):
                if block._compiled_call_impl is None:  # a whole block is compiled
                    block.compile(**self.compiled)
        return cut

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
        cut: VideoCut | None = None,
    ) -> Stem:
        """In of both experts and the Joint Blocks' embeddings: all that does not depend on isolation.

        cut: of the video's In only what lies outside it; `rest_of_stem` runs the rest.
        """
        cond = conditioning
        context = self.joint_blocks.embed_context(cond.context_image, cond.context_text)
        batch, device = video.shape[0], video.device
        c_noise, step = (expand_timestep(level, batch, device) for level in (video_timestep, audio_timestep))
        video_state, audio_state = self._both(
            partial(self._experts()[0].start, video, c_noise, cond.video_embeds, cond.added_time_ids, cut),
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

    def rest_of_stem(self, stem: Stem, cut: VideoCut) -> Stem:
        """The stem as it is without a cut, after `stem` with this one."""
        return replace(stem, video=self._experts()[0].rest_of_in(stem.video, cut))

    def trunk(
        self, stem: Stem, isolated: bool | Tensor, keep: bool = False, cut: VideoCut | None = None
    ) -> tuple[JointLatents, KeptVideo]:
        """Experts with their Joint Blocks, then Out. With `keep`, also the video's keys and values for sub-steps, else
        none; with a cut, moreover what `trunk_again` needs."""
        split = split_isolated(isolated, stem.fps.shape[0], stem.fps.device)
        kept: list[KeyValue] = []

        def join(states: Both, stage: int) -> Both:
            states, key_value = self.apply_joint_block(states, stage, stem, split)
            if keep:
                kept.append(key_value)
            return states

        video, audio = self.through_stages((stem.video, stem.audio), self.run_experts, join)
        video_expert, audio_expert = self._experts()

        def finish_video() -> tuple[Tensor, Tensor | None]:
            if cut is None:
                return video_expert.finish(video), None
            below = video_expert.inner(video, cut)
            return video_expert.outer(below, cut), below.hidden

        (seen, deep), heard = self._both(finish_video, partial(audio_expert.finish, audio))
        return JointLatents(seen, heard), KeptVideo(tuple(kept), deep)

    def trunk_again(self, stem: Stem, isolated: bool | Tensor, kept: KeptVideo, cut: VideoCut) -> JointLatents:
        """The video by what lies outside the cut alone, from a `stem` with it and on what `trunk` kept with it and the
        same `isolated`; the whole audio expert on the video's keys and values as they were then."""
        assert kept.deep is not None
        split = split_isolated(isolated, stem.fps.shape[0], stem.fps.device)
        return JointLatents(
            *self._both(
                partial(self._experts()[0].again, stem.video, kept.deep, cut),
                partial(self._audio_on, kept, stem.audio, stem.audio_embedding, stem.context, split),
            )
        )

    def through_stages(self, state: S, run: Callable[[S, int], S], join: Callable[[S, int], S]) -> S:
        """From In to before Out: `run` for every stage after In, and `join` after those, In too, that a Joint Block
        follows."""
        for stage in range(len(self.video_unet.down_blocks) + 1):
            if stage:
                state = run(state, stage)
            if stage in self._block_after:
                state = join(state, stage)
        return state

    def run_experts(self, states: Both, stage: int) -> Both:
        """Stage 1 .. n of both experts."""
        (video, audio), (video_expert, audio_expert) = states, self._experts()
        return self._both(partial(video_expert.run, video, stage), partial(audio_expert.run, audio, stage))

    def apply_joint_block(
        self, states: Both, stage: int, stem: Stem, split: tuple[Tensor, Tensor]
    ) -> tuple[Both, KeyValue]:
        """The states after the Joint Block of `stage`, and the video's keys and values of the samples that are not
        isolated. split: from `split_isolated`."""
        video, audio = states
        delta_v, delta_a, key_value = self._call(
            self._block_after[stage],
            video_tokens(video.hidden, stem.fps, video.level, video.rows),
            self._audio_tokens(audio),
            stem.video_embedding,
            stem.audio_embedding,
            stem.context,
            *split,
        )
        return (_add_video(video, delta_v), _add_audio(audio, delta_a)), key_value

    def audio_only(
        self,
        audio: Tensor,
        audio_timestep: Tensor | float,
        conditioning: Conditioning,
        kept: KeptVideo,
        isolated: bool | Tensor,
    ) -> Tensor:
        """The audio expert alone, its Joint Blocks attending to the video kept by `trunk` with the same `isolated`."""
        context = self.joint_blocks.embed_context(conditioning.context_image, conditioning.context_text)
        batch, device = audio.shape[0], audio.device
        embedding = self.joint_blocks.embed_audio_level(expand_timestep(audio_timestep, batch, device), context)
        split = split_isolated(isolated, batch, device)
        state = self._start_audio(audio, audio_timestep, conditioning)
        return self._audio_on(kept, state, embedding, context, split)

    def _audio_on(
        self, kept: KeptVideo, state: ExpertState, embedding: Tensor, context: Tensor, split: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The audio expert after its In, on the video that is kept."""
        expert, blocks = self._experts()[1], iter(kept.blocks)

        def join(state: ExpertState, stage: int) -> ExpertState:
            block, tokens = self._block_after[stage], self._audio_tokens(state)
            return _add_audio(state, self._call(block.audio_only, tokens, embedding, context, next(blocks), *split))

        return expert.finish(self.through_stages(state, expert.run, join))

    def audio_alone(self, audio: Tensor, audio_timestep: Tensor | float, conditioning: Conditioning) -> Tensor:
        """The audio expert with its isolated Joint Blocks, for which no video is needed."""
        nothing = KeptVideo((None,) * len(self._block_after))
        return self.audio_only(audio, audio_timestep, conditioning, nothing, isolated=True)

    def _audio_tokens(self, state: ExpertState) -> Tokens:
        return audio_tokens(state.hidden, self.joint_blocks.config["audio_latents_per_second"], state.level)

    def _start_audio(self, audio: Tensor, timestep: Tensor | float, cond: Conditioning) -> ExpertState:
        return self._experts()[1].start(audio, timestep, cond.audio_embeds, cond.audio_embeds_1, cond.audio_mask_1)


def split_isolated(isolated: bool | Tensor, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
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
