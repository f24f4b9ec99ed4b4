"""Joint Blocks: cross-modal transformer layers between the two UNets ("Animate and Sound an Image", CVPR 2025)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from einops import rearrange
from torch import Tensor, nn

from ..checked import Between, Count
from ..errors import InputError

TIME_PERIODS = (0.08, 30.0)  # seconds: from one frame to the longest clip
SPACE_PERIODS = (2.0, 256.0)  # latents
NOISE_EMBEDDING = 256
VIDEO_LEVEL_SCALE = 250.0  # c_noise = ln(sigma) / 4 spans about 3.2: this gives it the span of 1000 timesteps


class RotaryEmbedding(nn.Module):
    """Rotary positions on four axes that turn channels of their own: seconds, and latents of height, width, frequency.

    Half of the head's channels turn with time, an eighth with each other axis, the last eighth not at all. So at
    fixed height, width and frequency a score depends on the difference of times alone, also between the modalities.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        if head_dim % 16:
            raise InputError(f"head_dim {head_dim}: give a multiple of 16, which rotary positions need")
        counts = (head_dim // 4, head_dim // 16, head_dim // 16, head_dim // 16)
        self.head_dim = head_dim
        self.counts = counts

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [B, N, 4] (seconds, latents x 3) -> cosine and sine, each [B, 1, N, head_dim / 2]."""
        angles = []
        for axis, count in enumerate(self.counts):
            shortest, longest = TIME_PERIODS if axis == 0 else SPACE_PERIODS
            exponents = torch.linspace(0, 1, count, device=positions.device) if count > 1 else torch.zeros(1)
            periods = shortest * (longest / shortest) ** exponents.to(positions.device)
            angles.append(2 * math.pi * positions[..., axis, None] / periods)
        angles = torch.cat(angles, dim=-1)
        angles = F.pad(angles, (0, self.head_dim // 2 - angles.shape[-1]))[:, None]
        return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turns channel pairs (2i, 2i + 1) of x [B, heads, N, head_dim] by their angles."""
    cosine, sine = (part.to(x.dtype) for part in rotary)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1).flatten(-2)


def video_positions(fps: Tensor, frames: int, height: int, width: int, level: int) -> Tensor:
    """Positions [B, F * h * w, 4] of video tokens. Frame j stands at j / fps; a strided convolution centres token i of
    level L on latent i * 2^L."""
    device = fps.device
    step = 2.0**level
    grid = torch.stack(
        torch.meshgrid(
            torch.arange(frames, device=device, dtype=torch.float32),
            torch.arange(height, device=device, dtype=torch.float32) * step,
            torch.arange(width, device=device, dtype=torch.float32) * step,
            torch.zeros(1, device=device),
            indexing="ij",
        ),
        dim=-1,
    ).reshape(1, -1, 4)
    scale = torch.ones(fps.shape[0], 1, 4, device=device)
    scale[:, 0, 0] = 1 / fps.float()
    return grid * scale


def audio_positions(batch: int, rate: float, length: int, bins: int, level: int, device: torch.device) -> Tensor:
    """Positions [B, l * m, 4] of audio tokens; `rate` is the latents per second at level 0."""
    step = 2.0**level
    seconds = torch.arange(length, device=device, dtype=torch.float32) * (step / rate)
    frequency = torch.arange(bins, device=device, dtype=torch.float32) * step
    zero = torch.zeros(1, device=device)
    grid = torch.stack(torch.meshgrid(seconds, zero, zero, frequency, indexing="ij"), dim=-1).reshape(1, -1, 4)
    return grid.expand(batch, -1, -1)


@dataclass(frozen=True)
class Tokens:
    """One modality inside a Joint Block: x [B, N, W], positions [B, N, 4], grid (F, h, w) or (l, 1, m)."""

    x: Tensor
    positions: Tensor
    grid: tuple[int, int, int]


@dataclass(frozen=True)
class KeyValue:
    """Keys, already turned to their positions, and values: each [B, heads, N, head_dim]."""

    key: Tensor
    value: Tensor

    def select(self, index: Tensor) -> KeyValue:
        """The rows `index` [P]."""
        return KeyValue(self.key.index_select(0, index), self.value.index_select(0, index))

    def rows(self, index: Tensor) -> KeyValue:
        """`rows` of both."""
        return KeyValue(rows(self.key, index), rows(self.value, index))


def rows(x: Tensor, index: Tensor) -> Tensor:
    """The rows `index` [P], rising and each once; no copy where they are all."""
    return x if len(index) == len(x) else x.index_select(0, index)


def concatenate(parts: Sequence[KeyValue]) -> KeyValue:
    """Along tokens."""
    return KeyValue(torch.cat([part.key for part in parts], 2), torch.cat([part.value for part in parts], 2))


class HeadNorm(nn.RMSNorm):
    """A norm in its input's dtype: autocast leaves the weight in float32, for which there is no fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class ModalityBranch(nn.Module):
    """One modality's half of a Joint Block: projections in and out, AdaLN-Zero, Q, K, V, feed-forward."""

    def __init__(self, channels: int, width: int, head_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.width = width
        self.channels = channels
        self.norm_in = nn.LayerNorm(channels)
        self.proj_in = nn.Linear(channels, width)
        self.modulation = nn.Linear(embedding_dim, 4 * width + channels)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.norm_q = HeadNorm(head_dim, eps=1e-6)
        self.norm_k = HeadNorm(head_dim, eps=1e-6)
        self.to_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.proj_out = nn.Linear(width, channels)
        # AdaLN-Zero: shifts, scales and the gate start at zero. proj_out does not, or no gradient would reach the gate.
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def modulate(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """embedding [B, E] -> attention shift and scale, feed-forward shift and scale [B, 1, W], gate [B, 1, C]."""
        values = self.modulation(F.silu(embedding))[:, None]
        return values.split((self.width, self.width, self.width, self.width, self.channels), dim=-1)

    def heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "b n (h d) -> b h n d", d=self.head_dim)

    def query(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """[B, N, W] -> [B, heads, N, d]."""
        return rotate(self.norm_q(self.heads(self.to_q(x))), rotary)

    def key_value(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> KeyValue:
        """[B, N, W] -> keys and values of [B, heads, N, d]."""
        return KeyValue(rotate(self.norm_k(self.heads(self.to_k(x))), rotary), self.heads(self.to_v(x)))


def layer_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without weights of its own, modulated (DiT, 2212.09748)."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class JointBlock(nn.Module):
    """Perceiver joint attention between one stage of the two experts, then a feed-forward for each.

    hidden <- hidden + gate * projection, gates zero at the start: an untrained block changes nothing.
    """

    def __init__(
        self,
        video_channels: int,
        audio_channels: int,
        width: int,
        head_dim: int,
        embedding_dim: int,
        video_pool: int = 1,
    ) -> None:
        super().__init__()
        self.video = ModalityBranch(video_channels, width, head_dim, embedding_dim)
        self.audio = ModalityBranch(audio_channels, width, head_dim, embedding_dim)
        self.context_k = nn.Linear(width, width)
        self.context_v = nn.Linear(width, width)
        self.rotary = RotaryEmbedding(head_dim)
        self.query_chunk: int | None = None
        self.trained_pool = self.video_pool = video_pool

    def context(self, context: Tensor) -> KeyValue:
        """Context tokens [B, S, W] as keys and values without a position."""
        heads, norm = self.video.heads, self.video.norm_k
        return KeyValue(norm(heads(self.context_k(context))), heads(self.context_v(context)))

    def video_key_value(self, x: Tensor, tokens: Tokens) -> KeyValue:
        """Video keys and values, averaged over `video_pool` x `video_pool` tokens of a frame if that is over 1."""
        positions = tokens.positions
        if self.video_pool > 1:
            x, positions = (pool_frames(part, tokens.grid, self.video_pool) for part in (x, positions))
        return self.video.key_value(x, self.rotary(positions))

    def attend(self, query: Tensor, keys: Sequence[KeyValue]) -> Tensor:
        """PyTorch's fused attention, in chunks of queries if asked; [B, heads, N, d] -> [B, N, W]."""
        joined = concatenate(keys)
        parts = query.split(self.query_chunk, dim=2) if self.query_chunk else (query,)
        attended = [F.scaled_dot_product_attention(part, joined.key, joined.value) for part in parts]
        return rearrange(torch.cat(attended, 2) if len(attended) > 1 else attended[0], "b h n d -> b n (h d)")

    def forward(
        self,
        video: Tokens,
        audio: Tokens,
        video_embedding: Tensor,
        audio_embedding: Tensor,
        context: Tensor,
        full: Tensor,
        alone: Tensor,
    ) -> tuple[Tensor, Tensor, KeyValue]:
        """What to add to both hidden states, [B, N, C] each, and the video's keys and values of the full samples.

        video, audio: tokens with x [B, N, C]. full, alone: indices of the samples that attend across modalities and of
        the isolated ones. They are split here, since a mask per sample would switch fused attention off.
        """
        mod_v, mod_a = self.video.modulate(video_embedding), self.audio.modulate(audio_embedding)
        x_v, x_a = (branch.proj_in(branch.norm_in(t.x)) for branch, t in ((self.video, video), (self.audio, audio)))
        n_v, n_a = layer_norm(x_v, mod_v[0], mod_v[1]), layer_norm(x_a, mod_a[0], mod_a[1])
        rotary_v, rotary_a = self.rotary(video.positions), self.rotary(audio.positions)
        q_v, q_a = self.video.query(n_v, rotary_v), self.audio.query(n_a, rotary_a)
        kv_v, kv_a = self.video_key_value(n_v, video), self.audio.key_value(n_a, rotary_a)
        kv_c = self.context(context)
        kept = kv_v.rows(full)

        out_v, out_a = [], []
        if len(full):
            q = torch.cat((rows(q_v, full), rows(q_a, full)), dim=2)
            both = self.attend(q, (kept, kv_a.rows(full), kv_c.rows(full)))
            for out, part in zip((out_v, out_a), both.split((q_v.shape[2], q_a.shape[2]), dim=1), strict=True):
                out.append(part)
        if len(alone):
            own = kv_c.rows(alone)
            out_v.append(self.attend(rows(q_v, alone), (kv_v.rows(alone), own)))
            out_a.append(self.attend(rows(q_a, alone), (kv_a.rows(alone), own)))
        out_v, out_a = (in_order(out, full, alone) for out in (out_v, out_a))
        return self.complete(self.video, x_v, out_v, mod_v), self.complete(self.audio, x_a, out_a, mod_a), kept

    def audio_only(
        self, audio: Tokens, audio_embedding: Tensor, context: Tensor, kept: KeyValue, full: Tensor, alone: Tensor
    ) -> Tensor:
        """The audio half alone, attending to the video keys and values kept from a joint evaluation."""
        mod = self.audio.modulate(audio_embedding)
        x = self.audio.proj_in(self.audio.norm_in(audio.x))
        normed = layer_norm(x, mod[0], mod[1])
        rotary = self.rotary(audio.positions)
        query, own, kv_c = self.audio.query(normed, rotary), self.audio.key_value(normed, rotary), self.context(context)
        out = []
        if len(full):
            out.append(self.attend(rows(query, full), (kept, own.rows(full), kv_c.rows(full))))
        if len(alone):
            out.append(self.attend(rows(query, alone), (own.rows(alone), kv_c.rows(alone))))
        attended = in_order(out, full, alone)
        return self.complete(self.audio, x, attended, mod)

    @staticmethod
    def complete(branch: ModalityBranch, x: Tensor, attended: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """Output projection, feed-forward, and the gated projection back to the UNet's channels."""
        _, _, shift, scale, gate = modulation
        x = x + branch.to_out(attended)
        x = x + branch.feed_forward(layer_norm(x, shift, scale))
        return gate * branch.proj_out(x)


def in_order(parts: Sequence[Tensor], full: Tensor, alone: Tensor) -> Tensor:
    """Rows of the full and of the isolated samples, or of the only ones there are, in the order of the batch."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(list(parts)).index_select(0, torch.cat((full, alone)).argsort())


def pool_frames(x: Tensor, grid: tuple[int, int, int], pool: int) -> Tensor:
    """Averages [B, F * h * w, C] over pool x pool tokens within a frame; a rest at the edges is averaged by itself."""
    frames, height, width = grid
    x = rearrange(x, "b (f h w) c -> (b f) c h w", f=frames, h=height, w=width)
    x = F.avg_pool2d(x, pool, ceil_mode=True, count_include_pad=False)
    return rearrange(x, "(b f) c h w -> b (f h w) c", f=frames)


class JointBlockList(nn.ModuleList):
    """A ModuleList whose items a type checker knows."""

    def __iter__(self) -> Iterator[JointBlock]:
        return cast(Iterator[JointBlock], super().__iter__())


class JointBlocks(ModelMixin, ConfigMixin):
    """All Joint Blocks of a model with their shared conditioning; the only new weights of JointDiT (Stage A).

    stages: after which stage of the experts each block stands (0 is In).    audio_latents_per_second: their clock.
    video_channels, audio_channels: hidden widths there.    width, head_dim: of the tokens and heads.
    image_dim, text_dim: widths of the context tokens.    audio_dims: widths of the audio expert's two text streams.
    video_pools: by block, the tokens a side over which it averages the video's keys and values; None is 1 for all.
    """

    @register_to_config
    def __init__(
        self,
        stages: Sequence[Annotated[int, Between(0, 100)]] = (1, 2, 3, 4),
        video_channels: Sequence[Count] = (640, 1280, 1280, 1280),
        audio_channels: Sequence[Count] = (256, 384, 640, 640),
        width: Count = 640,
        head_dim: Count = 64,
        image_dim: Count = 1024,
        text_dim: Count = 768,
        audio_dims: Annotated[Sequence[Count], Between(2, 2)] = (768, 1024),
        audio_latents_per_second: Annotated[float, Between(0.01, 10_000)] = 25.0,
        video_pools: Sequence[Annotated[int, Between(1, 1024)]] | None = None,
    ) -> None:
        super().__init__()
        pools = [1] * len(stages) if video_pools is None else video_pools
        if not len(stages) == len(video_channels) == len(audio_channels) == len(pools):
            raise InputError(
                f"{len(stages)} stages, {len(video_channels)} video_channels, {len(audio_channels)} audio_channels, "
                f"{len(pools)} video_pools: give equally many"
            )
        if width % head_dim:
            raise InputError(f"width {width}: give a multiple of head_dim {head_dim}")
        self.blocks = JointBlockList(
            JointBlock(video, audio, width, head_dim, embedding_dim=width, video_pool=pool)
            for video, audio, pool in zip(video_channels, audio_channels, pools, strict=True)
        )
        self.image_context = nn.Sequential(nn.LayerNorm(image_dim), nn.Linear(image_dim, width))
        self.text_context = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, width))
        # Without a bias: a null picture (zeros) says nothing.
        adapters = [nn.Linear(image_dim, dim, bias=False) for dim in audio_dims]
        for layer in adapters:
            nn.init.zeros_(layer.weight)
        self.image_to_text = nn.ModuleList(adapters)
        self.video_level = nn.Sequential(nn.Linear(NOISE_EMBEDDING, width), nn.SiLU(), nn.Linear(width, width))
        self.audio_level = nn.Sequential(nn.Linear(NOISE_EMBEDDING, width), nn.SiLU(), nn.Linear(width, width))

    def set_memory(self, query_chunk: int | None = None, video_pool: int = 1) -> None:
        """Memory levers. query_chunk: queries a call of attention (same numbers). video_pool: averages the video's keys
        and values over pool x pool tokens (approximate), or over so many times as many as the blocks were trained
        with."""
        if query_chunk is not None and query_chunk < 1:
            raise InputError(f"query_chunk {query_chunk}: give None or at least 1")
        if video_pool < 1:
            raise InputError(f"video_pool {video_pool}: give at least 1")
        for block in self.blocks:
            block.query_chunk, block.video_pool = query_chunk, video_pool * block.trained_pool

    def image_to_audio(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """CLIP image embedding [B, 1, D] -> what to add to both text streams, [B, 1, D0] and [B, 1, D1]."""
        first, second = (layer(image) for layer in self.image_to_text)
        return first, second

    def embed_context(self, image: Tensor, text: Tensor) -> Tensor:
        """Image tokens [B, Ni, Di] and text tokens [B, Nt, Dt] -> context [B, Ni + Nt, W]. Text is padded to its
        encoder's full length and not masked, as is the custom with CLIP."""
        return torch.cat((self.image_context(image), self.text_context(text)), dim=1)

    def embed_video_level(self, c_noise: Tensor, context: Tensor) -> Tensor:
        """c_noise = ln(sigma) / 4 [B] and the clip's context -> AdaLN input [B, W]."""
        return self._embed(self.video_level, c_noise * VIDEO_LEVEL_SCALE, context)

    def embed_audio_level(self, timestep: Tensor, context: Tensor) -> Tensor:
        """Index of AudioLDM2's table [B] and the clip's context -> AdaLN input [B, W]."""
        return self._embed(self.audio_level, timestep, context)

    @staticmethod
    def _embed(layers: nn.Module, level: Tensor, context: Tensor) -> Tensor:
        return layers(get_timestep_embedding(level.float(), NOISE_EMBEDDING).to(context.dtype)) + context.mean(dim=1)


def video_tokens(hidden: Tensor, fps: Tensor, level: int, frames: int) -> Tokens:
    """Hidden state [B * F, C, h, w] of the video expert as tokens."""
    height, width = hidden.shape[-2:]
    x = rearrange(hidden, "(b f) c h w -> b (f h w) c", f=frames)
    return Tokens(x, video_positions(fps, frames, height, width, level), (frames, height, width))


def audio_tokens(hidden: Tensor, rate: float, level: int) -> Tokens:
    """Hidden state [B, C, l, m] of the audio expert as tokens."""
    batch, _, length, bins = hidden.shape
    x = rearrange(hidden, "b c l m -> b (l m) c")
    return Tokens(x, audio_positions(batch, rate, length, bins, level, hidden.device), (length, 1, bins))
