"""Stable Video Diffusion's networks as its original code builds them: an independent reference for names and numbers.

Module names give the published key names, so a single file is this `state_dict`. Sizes are arguments; the defaults are
the published ones, `SMALL` is for tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from safetensors.torch import save_file
from torch import Tensor, nn


def timestep_embedding(steps: Tensor, width: int) -> Tensor:
    angles = steps[:, None] * torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def conv3x3(channels: int, out: int, dims: int = 2) -> nn.Module:
    if dims == 3:
        return nn.Conv3d(channels, out, (3, 1, 1), padding=(1, 0, 0))
    return nn.Conv2d(channels, out, 3, padding=1)


class AlphaBlender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.empty(1).uniform_(-1, 1))


class ResBlock(nn.Module):
    def __init__(self, channels: int, out: int, emb: int = 0, dims: int = 2) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), conv3x3(channels, out, dims))
        if emb:
            self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, out))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, out), nn.SiLU(), nn.Dropout(0), conv3x3(out, out, dims))
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        hidden = self.in_layers(x)
        if emb is not None:
            hidden = hidden + self.emb_layers(emb).movedim(-1, 1).reshape(*hidden.shape[: x.ndim - 2], 1, 1)
        return self.skip_connection(x) + self.out_layers(hidden)


class VideoResBlock(ResBlock):
    def __init__(self, channels: int, out: int, emb: int) -> None:
        super().__init__(channels, out, emb)
        self.time_stack = ResBlock(out, out, emb, dims=3)
        self.time_mixer = AlphaBlender()

    def forward(self, x: Tensor, emb: Tensor, frames: int) -> Tensor:
        spatial = rearrange(super().forward(x, emb), "(b t) c h w -> b c t h w", t=frames)
        temporal = self.time_stack(spatial, rearrange(emb, "(b t) c -> b t c", t=frames))
        share = self.time_mixer.mix_factor.sigmoid()
        return rearrange(share * spatial + (1 - share) * temporal, "b c t h w -> (b t) c h w")


class CrossAttention(nn.Module):
    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            rearrange(each, "b s (h d) -> b h s d", h=self.heads)
            for each in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.to_out(rearrange(weights @ v, "b h s d -> b s (h d)"))


class GEGLU(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(width), nn.Dropout(0), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, width: int, context: int, heads: int, temporal: bool) -> None:
        super().__init__()
        if temporal:
            self.norm_in, self.ff_in = nn.LayerNorm(width), FeedForward(width)
        self.norm1, self.attn1 = nn.LayerNorm(width), CrossAttention(width, width, heads)
        self.norm2, self.attn2 = nn.LayerNorm(width), CrossAttention(width, context, heads)
        self.norm3, self.ff = nn.LayerNorm(width), FeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        if hasattr(self, "ff_in"):
            x = x + self.ff_in(self.norm_in(x))
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialVideoTransformer(nn.Module):
    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context, heads, temporal=False)])
        self.proj_out = nn.Linear(width, width)
        self.time_stack = nn.ModuleList([TransformerBlock(width, context, heads, temporal=True)])
        self.time_pos_embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))
        self.time_mixer = AlphaBlender()

    def forward(self, x: Tensor, context: Tensor, frames: int) -> Tensor:
        height, width = x.shape[-2:]
        position = self.time_pos_embed(timestep_embedding(torch.arange(frames), x.shape[1]))
        spatial = self.proj_in(rearrange(self.norm(x), "n c h w -> n (h w) c"))
        spatial = self.transformer_blocks[0](spatial, context)
        temporal = rearrange(spatial, "(b t) s c -> b s t c", t=frames) + position
        once = repeat(context[::frames], "b k d -> (b s) k d", s=height * width)
        temporal = self.time_stack[0](rearrange(temporal, "b s t c -> (b s) t c"), once)
        temporal = rearrange(temporal, "(b s) t c -> (b t) s c", s=height * width)
        share = self.time_mixer.mix_factor.sigmoid()
        out = self.proj_out(share * spatial + (1 - share) * temporal)
        return x + rearrange(out, "n (h w) c -> n c h w", h=height, w=width)


class Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv3x3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class VideoUNet(nn.Module):
    def __init__(
        self,
        channels: int = 320,
        multiples: Sequence[int] = (1, 2, 4, 4),
        context: int = 1024,
        labels: int = 768,
        head: int = 64,
        depth: int = 2,
        latents: int = 4,
    ) -> None:
        super().__init__()
        emb, self.channels, self.labels = 4 * channels, channels, labels
        self.time_embed = nn.Sequential(nn.Linear(channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label_emb = nn.Sequential(nn.Sequential(nn.Linear(labels, emb), nn.SiLU(), nn.Linear(emb, emb)))

        def layers(width: int, out: int, attention: bool) -> list[nn.Module]:
            transformer = [SpatialVideoTransformer(out, context, out // head)] if attention else []
            return [VideoResBlock(width, out, emb), *transformer]

        width, last = channels, len(multiples) - 1
        self.input_blocks = nn.ModuleList([nn.ModuleList([conv3x3(2 * latents, width)])])
        skips = [width]
        for level, multiple in enumerate(multiples):
            for _ in range(depth):
                self.input_blocks.append(nn.ModuleList(layers(width, channels * multiple, level < last)))
                width = channels * multiple
                skips.append(width)
            if level < last:
                self.input_blocks.append(nn.ModuleList([Downsample(width)]))
                skips.append(width)
        middle = SpatialVideoTransformer(width, context, width // head)
        self.middle_block = nn.ModuleList([VideoResBlock(width, width, emb), middle, VideoResBlock(width, width, emb)])
        self.output_blocks = nn.ModuleList()
        for level, multiple in reversed(list(enumerate(multiples))):
            for index in range(depth + 1):
                block = layers(width + skips.pop(), channels * multiple, level < last)
                width = channels * multiple
                if level and index == depth:
                    block.append(Upsample(width))
                self.output_blocks.append(nn.ModuleList(block))
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), conv3x3(width, latents))

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, ids: Tensor) -> Tensor:
        """x [B, F, 2C, h, w], c_noise [B], context [B, S, D], ids [B, 3]: frames per second, motion, augmentation."""
        batch, frames = x.shape[:2]
        label = timestep_embedding(ids.flatten(), self.labels // 3).reshape(batch, -1)
        emb = self.time_embed(timestep_embedding(c_noise, self.channels)) + self.label_emb(label)
        emb, context = emb.repeat_interleave(frames, 0), context.repeat_interleave(frames, 0)

        def run(block: nn.ModuleList, x: Tensor) -> Tensor:
            for layer in block:
                if isinstance(layer, VideoResBlock):
                    x = layer(x, emb, frames)
                elif isinstance(layer, SpatialVideoTransformer):
                    x = layer(x, context, frames)
                else:
                    x = layer(x)
            return x

        x, skips = x.flatten(0, 1), []
        for block in self.input_blocks:
            x = run(block, x)
            skips.append(x)
        x = run(self.middle_block, x)
        for block in self.output_blocks:
            x = run(block, torch.cat([x, skips.pop()], 1))
        return self.out(x).unflatten(0, (batch, frames))


class ResnetBlock(nn.Module):
    def __init__(self, channels: int, out: int, video: bool) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, channels, eps=1e-6), conv3x3(channels, out)
        self.norm2, self.conv2 = nn.GroupNorm(32, out, eps=1e-6), conv3x3(out, out)
        if channels != out:
            self.nin_shortcut = nn.Conv2d(channels, out, 1)
        if video:
            self.time_stack = ResBlock(out, out, dims=3)
            self.mix_factor = nn.Parameter(torch.empty(1).uniform_(-1, 1))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        hidden = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        x = hidden + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)
        if not hasattr(self, "time_stack"):
            return x
        spatial = rearrange(x, "(b t) c h w -> b c t h w", t=frames)
        share = self.mix_factor.sigmoid()
        return rearrange(share * self.time_stack(spatial) + (1 - share) * spatial, "b c t h w -> (b t) c h w")


class AttnBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (layer(normed).flatten(2) for layer in (self.q, self.k, self.v))
        weights = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(-1)
        return x + self.proj_out((v @ weights.transpose(1, 2)).reshape(x.shape))


class Middle(nn.Module):
    def __init__(self, width: int, video: bool) -> None:
        super().__init__()
        self.block_1, self.attn_1 = ResnetBlock(width, width, video), AttnBlock(width)
        self.block_2 = ResnetBlock(width, width, video)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x, frames)), frames)


class Level(nn.Module):
    def __init__(self, widths: Sequence[int], video: bool, **sampler: nn.Module) -> None:
        super().__init__()
        pairs = pairwise(widths)
        self.block = nn.ModuleList(ResnetBlock(width, out, video) for width, out in pairs)
        for name, module in sampler.items():
            setattr(self, name, module)


class Halve(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class TimeMixedConv(nn.Conv2d):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 3, padding=1)
        self.time_mix_conv = conv3x3(out, out, dims=3)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        x = rearrange(super().forward(x), "(b t) c h w -> b c t h w", t=frames)
        return rearrange(self.time_mix_conv(x), "b c t h w -> (b t) c h w")


class Encoder(nn.Module):
    def __init__(self, channels: int, multiples: Sequence[int], latents: int, depth: int = 2) -> None:
        super().__init__()
        self.conv_in = conv3x3(3, channels)
        widths = [channels, *(channels * multiple for multiple in multiples)]
        self.down = nn.ModuleList(
            Level([width] + [out] * depth, False, **({} if out_is_last else {"downsample": Halve(out)}))
            for (width, out), out_is_last in zip(pairwise(widths), [False] * (len(multiples) - 1) + [True], strict=True)
        )
        self.mid = Middle(widths[-1], False)
        self.norm_out = nn.GroupNorm(32, widths[-1], eps=1e-6)
        self.conv_out = conv3x3(widths[-1], 2 * latents)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            for block in level.block:
                x = block(x, 1)
            x = level.downsample(x) if hasattr(level, "downsample") else x
        return self.conv_out(F.silu(self.norm_out(self.mid(x, 1))))


class Decoder(nn.Module):
    def __init__(
        self, channels: int, multiples: Sequence[int], latents: int, depth: int = 2, video: bool = True
    ) -> None:
        super().__init__()
        outs = [channels * multiple for multiple in multiples]
        befores = [*outs[1:], outs[-1]]
        self.conv_in = conv3x3(latents, outs[-1])
        self.mid = Middle(outs[-1], video)
        self.up = nn.ModuleList(
            Level([before] + [out] * (depth + 1), video, **({"upsample": Upsample(out)} if level else {}))
            for level, (before, out) in enumerate(zip(befores, outs, strict=True))
        )
        self.norm_out = nn.GroupNorm(32, outs[0], eps=1e-6)
        self.conv_out = TimeMixedConv(outs[0], 3) if video else conv3x3(outs[0], 3)

    def forward(self, latents: Tensor, frames: int) -> Tensor:
        x = self.mid(self.conv_in(latents), frames)
        for level in reversed(self.up):
            for block in level.block:
                x = block(x, frames)
            x = level.upsample(x) if hasattr(level, "upsample") else x
        return self.conv_out(F.silu(self.norm_out(x)), frames)


class Autoencoder(nn.Module):
    """`first_stage_model`, and with `quant_conv`s and an image decoder the one of `conditioner.embedders.3`."""

    def __init__(
        self, channels: int = 128, multiples: Sequence[int] = (1, 2, 4, 4), latents: int = 4, video: bool = True
    ) -> None:
        super().__init__()
        self.encoder = Encoder(channels, multiples, latents)
        self.decoder = Decoder(channels, multiples, latents, video=video)
        if not video:
            self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1)
            self.post_quant_conv = nn.Conv2d(latents, latents, 1)


class VisionBlock(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.c_fc, self.mlp.gelu, self.mlp.c_proj = nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class VisionTower(nn.Module):
    """OpenCLIP's."""

    def __init__(
        self,
        width: int = 1280,
        layers: int = 32,
        heads: int = 16,
        inner: int = 5120,
        patch: int = 14,
        side: int = 224,
        out: int = 1024,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((side // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(VisionBlock(width, heads, inner) for _ in range(layers))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, out))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], 1)
        x = self.ln_pre(tokens + self.positional_embedding)
        for block in self.transformer.resblocks:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


SMALL_UNET = {"channels": 32, "multiples": (1, 2, 2), "context": 24, "labels": 24, "head": 16}
SMALL_VAE = {"channels": 32, "multiples": (1, 1, 1)}
SMALL_VISION = {"width": 16, "layers": 2, "heads": 2, "inner": 32, "patch": 112, "out": 24}
FLAT_UNET = {"multiples": (1, 1, 1, 1)}  # the smallest that ComfyUI takes for Stable Video Diffusion's
# The same sizes in the terms of the published configs, for `jointdit.checkpoints.single_file.CONFIGS`.
SMALL_CONFIGS = {
    "video_unet": {
        "in_channels": 8,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * 2 + ("DownBlockSpatioTemporal",),
        "up_block_types": ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 2,
        "block_out_channels": (32, 64, 64),
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
        "layers_per_block": 2,
        "cross_attention_dim": 24,
        "num_attention_heads": (2, 4, 4),
    },
    "video_vae": {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "block_out_channels": (32, 32, 32),
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
        "force_upcast": True,
    },
    "image_encoder": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 224,
        "patch_size": 112,
        "projection_dim": 24,
        "hidden_act": "gelu",
    },
}


def networks(small: bool = True) -> SimpleNamespace:
    """The four networks of a file; `first_stage` decodes, `picture` encodes."""
    unet, vae, vision = (SMALL_UNET, SMALL_VAE, SMALL_VISION) if small else ({}, {}, {})
    return SimpleNamespace(
        unet=VideoUNet(**unet).eval(),
        first_stage=Autoencoder(**vae).eval(),
        picture=Autoencoder(**vae, video=False).eval(),
        vision=VisionTower(**vision).eval(),
    )


def file_tensors(original: SimpleNamespace) -> dict[str, Tensor]:
    """All that a published file holds, by its published name; CLIP's text tower left its ends."""
    clip = "conditioner.embedders.0.open_clip.model."
    parts = {
        "model.diffusion_model.": original.unet,
        "first_stage_model.": original.first_stage,
        "conditioner.embedders.3.encoder.": original.picture,
        f"{clip}visual.": original.vision,
    }
    tensors = {prefix + name: each for prefix, part in parts.items() for name, each in part.state_dict().items()}
    return tensors | {f"{clip}logit_scale": torch.ones(()), f"{clip}text_projection": torch.zeros(4, 4)}


def write_single_file(path: Path, seed: int = 9) -> SimpleNamespace:
    """Writes a small Stable Video Diffusion as one file; returns its networks."""
    torch.manual_seed(seed)
    original = networks()
    save_file(file_tensors(original), path)
    return original


def write_for_comfyui(path: Path, seed: int = 9) -> None:
    """Writes a file that ComfyUI takes for Stable Video Diffusion: its loader builds the autoencoder of the published
    size alone, and knows the UNet by what `FLAT_UNET` keeps of it.

    The autoencoder has random weights and an encoder without a `quant_conv`, as ComfyUI's own; the UNet is zeros.
    """
    torch.manual_seed(seed)
    first_stage = Autoencoder()
    with torch.no_grad():
        first_stage.decoder.conv_out.time_mix_conv.weight *= 4  # pictures of some contrast
    with torch.device("meta"):
        original = SimpleNamespace(
            unet=VideoUNet(**FLAT_UNET),
            first_stage=first_stage,
            picture=nn.Module(),
            vision=VisionTower(**SMALL_VISION),
        )
    tensors = {
        name: torch.zeros(each.shape, dtype=torch.half) if each.is_meta else each.half()
        for name, each in file_tensors(original).items()
    }
    save_file(tensors, path)
