"""Operations, time, memory and training at the size of the real experts, with random weights.

    python tests/benchmarks/full_size.py --json full_size.json                  # everything, on one CUDA GPU
    python tests/benchmarks/full_size.py --compile inductor --channels-last --audio-stream --parts steps
    python tests/benchmarks/full_size.py --parts operations                     # counted, not run: needs no GPU
    python tests/benchmarks/full_size.py --device cpu --size small              # that it runs, nothing more

Parts: operations (counted on the meta device), layers (the same where reuse keeps more or less of the video's first and
last block), long (the same for clips of several windows), steps (our step with each
guidance against diffusers' two pipelines, one after the other, with their own guidance), split (milliseconds of each
block), growth (with frames and size), memory (a clip with the process limited to a figure), training (one optimizer
step of stages A and B). Text encoders are left out: texts are random embeddings of AudioLDM2's shapes.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import platform
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AudioLDM2Pipeline,
    AudioLDM2UNet2DConditionModel,
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GPT2Config,
    GPT2LMHeadModel,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
)

from jointdit import JointCFG, JointDiTPipeline, SamplingSettings
from jointdit.diffusion.denoiser import JointDenoiser
from jointdit.diffusion.guidance import DEFAULTS
from jointdit.diffusion.reuse import Reuse
from jointdit.diffusion.schedules import NoiseClock
from jointdit.encoders.conditioning import TextEmbeddings, encode_clip_image, join, without_image
from jointdit.latents import ClipShape, JointLatents, LatentLayout
from jointdit.models.experts import VideoExpert
from jointdit.models.experts.attention import shorten_cross_attention
from jointdit.models.joint_block import JointBlocks
from jointdit.models.model import Conditioning, JointDiTModel
from jointdit.pipeline import Conditions
from jointdit.pipeline.windowed import OVERLAP, TOGETHER
from jointdit.runtime.memory import PRESETS, Memory, chunk_feed_forward
from jointdit.runtime.offload import unet_blocks
from jointdit.runtime.speed import Speed, graphs_compiled
from jointdit.train.average import update_average
from jointdit.train.engine import trained_module

PARTS = ("operations", "layers", "long", "steps", "split", "growth", "memory", "training")
PASSES = {  # isolated or not, of those that share the conditions, then of the others
    "none": ((False,), ()),
    "cfg": ((False,), (False,)),
    "joint-cfg": ((False,), (True,)),
    "joint-cfg-star": ((False, True), (True,)),
}
REUSED = (2, 3, 4)  # schedules: every so many steps is full
LAYERS = (1, 2, 3)  # of the last up block, that run in every step
FEW = (4, 8, 25)  # steps
INTERVAL = (0.28, 5.42)  # of sigma, in which guidance acts: that of 2404.07724 for Stable Diffusion XL
TEXT = (8, 24)  # tokens of AudioLDM2's two streams
LAYOUT = LatentLayout(4, 8, 8, 4, 64, 160, 16000)  # of Stable Video Diffusion and AudioLDM2
LENGTHS = (4, 8, 16, 30, 60)  # seconds of a long clip


@dataclass(frozen=True)
class Size:
    """The architecture, and the clips that it is measured with."""

    video_channels: tuple[int, ...]
    video_heads: tuple[int, ...]
    audio_channels: tuple[int, ...]
    dims: tuple[int, int, int]  # of CLIP's embedding and of the two texts
    joint_width: int
    head_dim: int
    vae_channels: int
    clip: tuple[int, int, int, int, int]  # width, layers, heads, patch and mlp of the image encoder
    shape: ClipShape
    large: ClipShape
    growth: tuple[ClipShape, ...]
    memory: tuple[tuple[ClipShape, float, Memory], ...]  # GB


def clip_shape(frames: int, height: int, width: int) -> ClipShape:
    return ClipShape(frames, Fraction(7), height, width)


SMALL, LARGE = clip_shape(14, 320, 576), clip_shape(25, 576, 1024)
SIZES = {
    "full": Size(
        video_channels=(320, 640, 1280, 1280),
        video_heads=(5, 10, 20, 20),
        audio_channels=(128, 256, 384, 640),
        dims=(1024, 768, 1024),
        joint_width=640,
        head_dim=64,
        vae_channels=128,
        clip=(1280, 32, 16, 14, 5120),
        shape=SMALL,
        large=LARGE,
        growth=(
            *(clip_shape(frames, 320, 576) for frames in (7, 14, 25)),
            *(clip_shape(14, *size) for size in ((256, 448), (448, 768), (576, 1024))),
        ),
        memory=(
            (SMALL, 6, PRESETS["low"]),
            (LARGE, 12, PRESETS["low"]),
            (LARGE, 8, PRESETS["lowest"]),
            (LARGE, 8, replace(PRESETS["lowest"], float8=True)),  # the last: eight bits are for good
        ),
    ),
    "small": Size(
        video_channels=(32, 32, 64, 64),
        video_heads=(2, 2, 4, 4),
        audio_channels=(32, 32, 64, 64),
        dims=(24, 12, 20),
        joint_width=32,
        head_dim=16,
        vae_channels=32,
        clip=(16, 1, 2, 112, 16),
        shape=clip_shape(3, 64, 64),
        large=clip_shape(4, 64, 128),
        growth=(clip_shape(3, 64, 64), clip_shape(5, 64, 64)),
        memory=(
            (clip_shape(3, 64, 64), 6, PRESETS["low"]),
            (clip_shape(3, 64, 64), 6, replace(PRESETS["lowest"], float8=True)),
        ),
    ),
}


# Models with random weights


def video_unet(size: Size) -> UNetSpatioTemporalConditionModel:
    return UNetSpatioTemporalConditionModel(
        block_out_channels=size.video_channels,
        num_attention_heads=size.video_heads,
        cross_attention_dim=size.dims[0],
        num_frames=size.shape.frames,
    )


def audio_unet(size: Size) -> AudioLDM2UNet2DConditionModel:
    return AudioLDM2UNet2DConditionModel(
        in_channels=8,
        out_channels=8,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
        block_out_channels=size.audio_channels,
        cross_attention_dim=((None, *size.dims[1:]),) * 4,
    )


def joint_blocks(size: Size) -> JointBlocks:
    return JointBlocks(
        video_channels=(*size.video_channels[1:], size.video_channels[-1]),
        audio_channels=(*size.audio_channels[1:], size.audio_channels[-1]),
        width=size.joint_width,
        head_dim=size.head_dim,
        image_dim=size.dims[0],
        text_dim=size.dims[1],
        audio_dims=size.dims[1:],
    )


def pipeline(size: Size, device: torch.device, dtype: torch.dtype) -> JointDiTPipeline:
    """All that makes a clip but the text encoders, built on the device."""
    width, layers, heads, patch, mlp = size.clip
    base = size.vae_channels

    def made(make: Callable[[], nn.Module]) -> nn.Module:
        with torch.device(device):
            return make().to(device, dtype).eval()

    return JointDiTPipeline(
        video_unet=made(lambda: video_unet(size)),
        audio_unet=made(lambda: audio_unet(size)),
        joint_blocks=made(lambda: joint_blocks(size)),
        video_vae=made(
            lambda: AutoencoderKLTemporalDecoder(
                down_block_types=("DownEncoderBlock2D",) * 4,
                block_out_channels=(base, 2 * base, 4 * base, 4 * base),
                layers_per_block=2,
            )
        ),
        audio_vae=made(
            lambda: AutoencoderKL(
                in_channels=1,
                out_channels=1,
                down_block_types=("DownEncoderBlock2D",) * 3,
                up_block_types=("UpDecoderBlock2D",) * 3,
                block_out_channels=(base, 2 * base, 4 * base),
                layers_per_block=2,
                latent_channels=8,
                scaling_factor=0.41,
            )
        ),
        vocoder=made(
            lambda: SpeechT5HifiGan(
                SpeechT5HifiGanConfig(
                    model_in_dim=64,
                    upsample_initial_channel=8 * base,
                    upsample_rates=[5, 4, 2, 2, 2],
                    upsample_kernel_sizes=[16, 16, 8, 4, 4],
                    normalize_before=False,
                )
            )
        ),
        image_encoder=made(
            lambda: CLIPVisionModelWithProjection(
                CLIPVisionConfig(
                    hidden_size=width,
                    intermediate_size=mlp,
                    num_hidden_layers=layers,
                    num_attention_heads=heads,
                    patch_size=patch,
                    projection_dim=size.dims[0],
                )
            )
        ),
        feature_extractor=CLIPImageProcessor(),
        video_scheduler=video_scheduler(),
        audio_scheduler=audio_scheduler(),
        tokenizer=None,
        text_encoder=None,
    )


def video_scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        steps_offset=1,
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
    )


def audio_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def texts(size: Size, device: torch.device, dtype: torch.dtype, count: int = 1) -> TextEmbeddings:
    """Random embeddings of `count` texts."""
    first, second = (
        torch.randn(count, tokens, dim, device=device, dtype=dtype)
        for tokens, dim in zip(TEXT, size.dims[1:], strict=True)
    )
    return TextEmbeddings(first, second, torch.ones(count, TEXT[1], dtype=torch.long, device=device), first)


@torch.no_grad()
def conditions(pipe: JointDiTPipeline, size: Size, shape: ClipShape) -> Conditions:
    """Of a random picture, through the image encoder and the autoencoder, and of random texts."""
    device, dtype = pipe.device, pipe.video_unet.dtype
    pixels = torch.rand(1, 3, shape.height, shape.width, device=device) * 2 - 1
    with pipe.using("video_vae"):
        latents = pipe.video_codec.encode_image(pixels)
    with pipe.using("image_encoder"):
        image = encode_clip_image(pipe.feature_extractor, pipe.image_encoder, pixels)
    positive, negative = (
        join(image, latents, texts(size, device, dtype), shape.fps, 127, 0.02).to(dtype) for _ in range(2)
    )
    return Conditions(positive, without_image(negative), shape)


# Measuring


class Watch:
    """Milliseconds and peak memory of a device between `start` and `stop`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1e3 * time.perf_counter()

    def reset(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> float | None:
        """GB; None where the device does not say."""
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else None


class StepTimer:
    """Called after each step; the mean of all but the first, with one stop at either end."""

    def __init__(self, watch: Watch, steps: int) -> None:
        self.watch, self.steps, self.done, self.times = watch, steps, 0, []

    def __call__(self) -> None:
        self.done += 1
        if self.done in (1, self.steps):
            self.times.append(self.watch.now())

    @property
    def milliseconds(self) -> float:
        first, last = self.times
        return (last - first) / (self.steps - 1)


class Split:
    """Adds up over each block of both UNets, and over the Joint Blocks, what `read` says before and after."""

    def __init__(self, model: JointDiTModel, read: Callable[[], Any], between: Callable[[Any, Any], float]) -> None:
        self.read, self.between = read, between
        self.pairs: dict[str, list[tuple[Any, Any]]] = {}
        self.hooks = []
        for name, unet in (("video", model.video_unet), ("audio", model.audio_unet)):
            self.watch(f"{name} In", unet.conv_in, unet.down_blocks[0])
            for index, block in enumerate(unet.down_blocks[1:], 1):
                self.watch(f"{name} down {index}", block)
            self.watch(f"{name} mid", unet.mid_block)
            for index, block in enumerate(unet.up_blocks):
                self.watch(f"{name} up {index}", block)
            self.watch(f"{name} end", unet.conv_norm_out, unet.conv_out)
        self.watch("Joint Blocks", *model.joint_blocks.blocks)

    def watch(self, name: str, *modules: nn.Module) -> None:
        pairs, starts = self.pairs.setdefault(name, []), []
        for module in modules:
            self.hooks.append(module.register_forward_pre_hook(lambda *_: starts.append(self.read())))
            self.hooks.append(module.register_forward_hook(lambda *_: pairs.append((starts.pop(), self.read()))))

    def totals(self) -> dict[str, float]:
        return {name: sum(self.between(*pair) for pair in pairs) for name, pairs in self.pairs.items()}

    def end(self) -> None:
        for hook in self.hooks:
            hook.remove()


def time_split(model: JointDiTModel, device: torch.device) -> Split:
    """Milliseconds: by events on CUDA, which do not stop it."""
    if device.type != "cuda":
        return Split(model, lambda: 1e3 * time.perf_counter(), lambda start, end: end - start)

    def event() -> torch.cuda.Event:
        made = torch.cuda.Event(enable_timing=True)
        made.record()
        return made

    return Split(model, event, lambda start, end: start.elapsed_time(end))


def matmul_peak(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """TFLOP/s of the best of some square matrix products."""
    watch, best = Watch(device), 0.0
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    for _ in range(12):
        start = watch.now()
        a @ b
        best = max(best, 2 * side**3 / (watch.now() - start) / 1e9)
    return best


# Operations


class Operations:
    """Counts on the meta device, 2 for a multiply-add: nothing is computed, so any machine will do."""

    def __init__(self, size: Size) -> None:
        self.size, self.device = size, torch.device("meta")
        with self.device:
            model = JointDiTModel(video_unet(size), audio_unet(size), joint_blocks(size))
        self.model = model.to(self.device).eval()  # some parameters of diffusers' stay on the host
        self.theirs = untouched(self.model.video_unet), untouched(self.model.audio_unet)
        shorten_cross_attention(self.model.video_unet)

    def inputs(self, shape: ClipShape, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Conditioning]:
        size, meta = self.size, self.device
        height, width, length = shape.height // 8, shape.width // 8, -(-int(shape.seconds * 100) // 4)
        image = torch.empty(rows, 1, size.dims[0], device=meta)
        latents = torch.empty(rows, 4, height, width, device=meta)
        cond = join(image, latents, texts(size, meta, torch.float32, rows), shape.fps, 127, 0.02)
        level = torch.empty(rows, device=meta)
        video = torch.empty(rows, shape.frames, 8, height, width, device=meta)
        return video, torch.empty(rows, 8, length, 16, device=meta), level, level, cond

    @torch.no_grad()
    def joint(self, shape: ClipShape, mode: str) -> dict[str, float]:
        """TFLOP of one step under a guidance, by block."""
        own, others = PASSES[mode]
        with FlopCounterMode(display=False) as counter:
            split = Split(self.model, counter.get_total_flops, lambda start, end: end - start)
            stem = self.model.stem(*self.inputs(shape, rows=1 + bool(others)))
            rows = torch.tensor([0] * len(own) + [1] * len(others), device=self.device)
            self.model.trunk(stem.select(rows), torch.tensor([*own, *others]))
            split.end()
        found = {name: flops / 1e12 for name, flops in split.totals().items()}
        return {"whole": counter.get_total_flops() / 1e12} | found

    @torch.no_grad()
    def reused(self, shape: ClipShape, mode: str, layers: int | None = None) -> float:
        """TFLOP of one step under a guidance that reuses the depth of the video. layers: as in `Reuse`."""
        cut = self.model.cut(layers)
        own, others = PASSES[mode]
        rows = torch.tensor([0] * len(own) + [1] * len(others), device=self.device)
        isolated = torch.tensor([*own, *others])
        stem = self.model.rest_of_stem(self.model.stem(*self.inputs(shape, rows=1 + bool(others)), cut), cut)
        _, kept = self.model.trunk(stem.select(rows), isolated, keep=True, cut=cut)
        with FlopCounterMode(display=False) as counter:
            stem = self.model.stem(*self.inputs(shape, rows=1 + bool(others)), cut)
            self.model.trunk_again(stem.select(rows), isolated, kept, cut)
        return counter.get_total_flops() / 1e12

    @torch.no_grad()
    def outer_layers(self, shape: ClipShape) -> dict[str, float]:
        """TFLOP of one pass in each layer of the video's first down block and last up block, and at both ends."""
        unet = self.model.video_unet
        parts = {"conv_in": [unet.conv_in], "norm and conv_out": [unet.conv_norm_out, unet.conv_out]}
        for name, block in (("down 0", unet.down_blocks[0]), ("up 3", unet.up_blocks[-1])):
            for index, layer in enumerate(zip(block.resnets, block.attentions, strict=True)):
                parts[f"{name}, layer {index}"] = layer
        parts["down 0, downsampler"] = unet.down_blocks[0].downsamplers
        expert = VideoExpert(unet)
        cut = expert.cut(None)
        video, _, level, _, cond = self.inputs(shape, rows=1)
        with FlopCounterMode(display=False) as counter:
            split = Split(self.model, counter.get_total_flops, lambda start, end: end - start)
            for name, modules in parts.items():
                split.watch(name, *modules)
            state = expert.start(video, level, cond.video_embeds, cond.added_time_ids)
            height, width = (side // 8 for side in (shape.height, shape.width))
            deep = video.new_empty(shape.frames, self.size.video_channels[1], height, width)
            expert.again(state, deep, cut)
            split.end()
        return {name: flops / 1e12 for name, flops in split.totals().items() if name in parts}

    @torch.no_grad()
    def sound_guided(self, shape: ClipShape) -> float:
        """TFLOP of one step whose guidance leaves the video alone: a joint pass, and the isolated audio expert."""
        video, audio, level, timestep, cond = self.inputs(shape, rows=1)
        with FlopCounterMode(display=False) as counter:
            self.model(video, audio, level, timestep, cond)
            self.model.audio_alone(audio, timestep, cond)
        return counter.get_total_flops() / 1e12

    @torch.no_grad()
    def diffusers(self, shape: ClipShape, rows: int) -> tuple[float, float]:
        """TFLOP of one evaluation of each UNet by its own forward."""
        video, audio, level, _, cond = self.inputs(shape, rows)
        with FlopCounterMode(display=False) as counter:
            self.theirs[0](video, level, cond.video_embeds, cond.added_time_ids)
            seen = counter.get_total_flops()
            self.theirs[1](
                audio,
                level,
                cond.audio_embeds,
                encoder_hidden_states_1=cond.audio_embeds_1,
                encoder_attention_mask_1=cond.audio_mask_1,
            )
        return seen / 1e12, (counter.get_total_flops() - seen) / 1e12

    @torch.no_grad()
    def bytes_at_once(self, shape: ClipShape, rows: int, chunks: bool) -> float:
        """GB of intermediate results of a joint evaluation that are alive at once, in float16."""
        model = self.model.half()
        chunk_feed_forward(model.video_unet, chunks)
        video, audio, level, _, cond = self.inputs(shape, rows)
        with LiveBytes(model) as live:
            model(video.half(), audio.half(), level, level, cond.to(torch.float16))
        chunk_feed_forward(model.video_unet, False)
        self.model.float()
        return live.peak / 1e9

    def weights(self, by_stage: bool) -> float:
        """GB of float16 weights while denoising; `by_stage`: of the video UNet's blocks, one and the next."""
        blocks = [size_of(block) for block in unet_blocks(self.model.video_unet)]
        away = sum(blocks) - max(sum(pair) for pair in pairwise(blocks)) if by_stage else 0
        return 2 * (size_of(self.model) - away) / 1e9


class LiveBytes(TorchDispatchMode):
    """Bytes of results that are alive at once, counted on the meta device, without the model's weights. Attention
    counts as fused: its result alone. What a GPU's libraries and its allocator take besides is not in it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known = {weight.untyped_storage()._cdata for weight in model.parameters()}

    def __enter__(self) -> LiveBytes:
        self.attention = functional.scaled_dot_product_attention
        functional.scaled_dot_product_attention = lambda query, key, value, *_, **__: torch.empty_like(query)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        functional.scaled_dot_product_attention = self.attention

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self.release, storage._cdata, storage.nbytes())
        return result

    def release(self, storage: int, size: int) -> None:
        self.known.discard(storage)
        self.live -= size


def size_of(module: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())


def operations(size: Size) -> dict[str, Any]:
    """TFLOP of a step, and predicted ratios to diffusers' two pipelines with guidance (two passes each)."""
    count = Operations(size)
    found = {}
    for shape in (size.shape, size.large):
        video, audio = count.diffusers(shape, rows=1)
        theirs = sum(count.diffusers(shape, rows=2))
        steps = {mode: count.joint(shape, mode) for mode in PASSES}
        again = {mode: count.reused(shape, mode) for mode in PASSES}
        cheap = {"the sound alone": count.sound_guided(shape) / theirs}
        for mode in ("cfg", "joint-cfg", "joint-cfg-star"):
            guided = guided_steps() / 25
            cheap[f"{mode} in {INTERVAL}"] = (
                guided * steps[mode]["whole"] + (1 - guided) * steps["none"]["whole"]
            ) / theirs
        found[name_of(shape)] = {
            "TFLOP of the video UNet": video,
            "TFLOP of the audio UNet": audio,
            "TFLOP of a step of diffusers' two pipelines": theirs,
            "TFLOP of a joint step": {mode: step["whole"] for mode, step in steps.items()},
            "ratio to diffusers' two pipelines": {mode: step["whole"] / theirs for mode, step in steps.items()},
            "TFLOP of a step that reuses the depth of the video": again,
            "ratio to diffusers' two pipelines of a clip, with reuse": {
                f"every {every}": {mode: clip_of(steps[mode]["whole"], again[mode], every) / theirs for mode in PASSES}
                for every in REUSED
            },
            "operations of a clip relative to 25 steps of diffusers' two pipelines, by steps": {
                str(number): {mode: number / 25 * steps[mode]["whole"] / theirs for mode in ("none", "joint-cfg")}
                for number in FEW
            },
            "ratio to diffusers' two pipelines, where guidance is not for all": cheap,
            "TFLOP of one pass by block": steps["none"],
            "GB of float16 weights and of intermediate results at once": {
                "plain, 2 passes": [count.weights(by_stage=False), count.bytes_at_once(shape, 2, chunks=False)],
                "low": [count.weights(by_stage=False), count.bytes_at_once(shape, 1, chunks=True)],
                "lowest": [count.weights(by_stage=True), count.bytes_at_once(shape, 1, chunks=True)],
            },
        }
    return found


def fewer_layers(size: Size) -> dict[str, Any]:
    """Where reuse runs so many of the last block's layers: TFLOP of a step that reuses, and the clip's ratio to
    diffusers' two pipelines with guidance; and TFLOP of a pass in each of those layers."""
    count, found = Operations(size), {}
    for shape in (size.shape, size.large):
        theirs = sum(count.diffusers(shape, rows=2))
        steps = {mode: count.joint(shape, mode)["whole"] for mode in ("none", "joint-cfg")}
        rows = {}
        for layers in LAYERS:
            again = {mode: count.reused(shape, mode, layers) for mode in steps}
            rows[str(layers)] = {"TFLOP of a step that reuses": again} | {
                f"every {every}": {mode: clip_of(steps[mode], again[mode], every) / theirs for mode in steps}
                for every in REUSED
            }
        found[name_of(shape)] = {"by layers": rows, "TFLOP of one pass by layer": count.outer_layers(shape)}
    return found


def long_clips(size: Size) -> dict[str, Any]:
    """TFLOP of a step of joint-cfg for each second of a clip of several windows, by its length, and GB of intermediate
    results at once, of which there are those of a few windows."""
    count, found = Operations(size), {}
    for shape in (size.shape, size.large):
        window, rows = count.joint(shape, "joint-cfg")["whole"], {}
        for seconds in LENGTHS:
            windows = windows_of(shape, seconds)
            rows[f"{seconds} s"] = {
                "windows": windows,
                "at once": min(windows, TOGETHER),
                "TFLOP of a step for a second": window * windows / seconds,
            }
        costs = [row["TFLOP of a step for a second"] for row in rows.values()]
        found[name_of(shape)] = rows | {
            "overlap in frames, at least": round(shape.frames * OVERLAP),
            "dearest to cheapest second": max(costs) / min(costs),
            "GB of float16 intermediate results of a window's pass": count.bytes_at_once(shape, 1, chunks=False),
        }
    return found


def windows_of(shape: ClipShape, seconds: float) -> int:
    """How many windows of `shape` a clip of this length has."""
    clip = replace(shape, frames=round(seconds * shape.fps))
    return len(LAYOUT.windows(clip, shape.frames, round(shape.frames * OVERLAP)).starts)


def clip_of(full: float, again: float, every: int) -> float:
    """The mean step of a clip of 25, of which every so many is full."""
    steps = [full if step % every == 0 else again for step in range(25)]
    return sum(steps) / len(steps)


def guided_steps() -> int:
    """Of 25 on Stable Video Diffusion's own noise levels, those in `INTERVAL`."""
    sigmas = NoiseClock(video_scheduler(), audio_scheduler()).grid(25).video_sigmas
    return int(((sigmas >= INTERVAL[0]) & (sigmas <= INTERVAL[1])).sum())


def name_of(shape: ClipShape) -> str:
    return f"{shape.frames} frames {shape.height}x{shape.width}"


# Time


def joint_step(
    pipe: JointDiTPipeline, given: Conditions, mode: str, steps: int, watch: Watch, every: int = 1
) -> tuple[float, float | None]:
    """Milliseconds of a step, and the peak memory in GB. every: so many steps is one full."""
    watch.reset()
    timer = StepTimer(watch, steps)
    pipe.sample(
        given,
        SamplingSettings(
            steps,
            guidance=JointCFG(mode=mode),
            audio_grid="even",
            audio_substeps=1,
            reuse=Reuse(every) if every > 1 else None,
        ),
        generator=torch.Generator().manual_seed(0),
        callback=lambda *_: timer(),
    )
    return timer.milliseconds, watch.peak()


def untouched(unet: nn.Module) -> nn.Module:
    """diffusers' own UNet on the same weights: nothing of ours is left in its layers."""
    with torch.device("meta"):
        plain = type(unet).from_config(unet.config)
    plain.load_state_dict(unet.state_dict(), assign=True)
    return plain.eval()


def diffusers_steps(
    pipe: JointDiTPipeline, size: Size, shape: ClipShape, steps: int, watch: Watch, compiled: str | None
) -> dict[str, Any]:
    """Milliseconds of a step of both pipelines, one after the other, with their own guidance."""
    device, dtype = pipe.device, pipe.video_unet.dtype
    video_unet, audio_unet = untouched(pipe.video_unet), untouched(pipe.audio_unet)
    if compiled:
        video_unet.compile(backend=compiled, dynamic=False)
        audio_unet.compile(backend=compiled, dynamic=False)
    video = StableVideoDiffusionPipeline(
        pipe.video_vae, pipe.image_encoder, video_unet, pipe.video_scheduler, pipe.feature_extractor
    )
    # Embeddings are given; the pipeline asks these two for no more than their dtype.
    t5 = T5EncoderModel(T5Config(vocab_size=8, d_model=size.dims[2], d_kv=4, d_ff=8, num_layers=1, num_heads=1))
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=8, n_embd=size.dims[1], n_layer=1, n_head=1))
    audio = AudioLDM2Pipeline(
        vae=pipe.audio_vae,
        text_encoder=None,
        text_encoder_2=t5.to(device, dtype),
        projection_model=None,
        language_model=gpt2.to(device, dtype),
        tokenizer=None,
        tokenizer_2=None,
        feature_extractor=None,
        unet=audio_unet,
        scheduler=pipe.audio_scheduler,
        vocoder=pipe.vocoder,
    )
    video.set_progress_bar_config(disable=True)
    audio.set_progress_bar_config(disable=True)
    watch.reset()
    timer = StepTimer(watch, steps)

    def after_step(*_) -> dict:
        timer()
        return {}

    video(
        Image.fromarray(np.zeros((shape.height, shape.width, 3), np.uint8)),
        height=shape.height,
        width=shape.width,
        num_frames=shape.frames,
        num_inference_steps=steps,
        callback_on_step_end=after_step,
        output_type="latent",
    )
    video_ms, timer = timer.milliseconds, StepTimer(watch, steps)
    said, unsaid = (texts(size, device, dtype) for _ in range(2))
    audio(
        audio_length_in_s=float(shape.seconds),
        num_inference_steps=steps,
        prompt_embeds=said.audio_embeds_1,
        attention_mask=said.audio_mask_1,
        generated_prompt_embeds=said.audio_embeds,
        negative_prompt_embeds=unsaid.audio_embeds_1,
        negative_attention_mask=unsaid.audio_mask_1,
        negative_generated_prompt_embeds=unsaid.audio_embeds,
        callback=lambda *_: timer(),
        output_type="latent",
    )
    return {
        "video ms per step": video_ms,
        "audio ms per step": timer.milliseconds,
        "ms per step": video_ms + timer.milliseconds,
        "peak memory GB": watch.peak(),
    }


def measure_steps(pipe, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Our step with each guidance against diffusers' two pipelines."""
    watch, compiled = Watch(pipe.device), options.compile
    given = conditions(pipe, size, size.shape)
    count = Operations(size)
    flops = {mode: count.joint(size.shape, mode)["whole"] for mode in DEFAULTS}
    peak = matmul_peak(pipe.device, pipe.video_unet.dtype, 8192 if pipe.device.type == "cuda" else 256)
    theirs = diffusers_steps(pipe, size, size.shape, options.steps, watch, compiled)
    found: dict[str, Any] = {"matmul TFLOP/s": peak, "diffusers, one after the other": theirs}
    for mode in DEFAULTS:
        joint_step(pipe, given, mode, 2, watch)  # compiles, and lets cuDNN choose
        graphs = graphs_compiled()
        milliseconds, memory = joint_step(pipe, given, mode, options.steps, watch)
        found[mode] = {
            "ms per step": milliseconds,
            "ratio to diffusers": milliseconds / theirs["ms per step"],
            "share of the matmul peak": flops[mode] / (milliseconds / 1e3) / peak,
            "peak memory GB": memory,
            "graphs compiled after the first steps": graphs_compiled() - graphs,
        }
    found["joint-cfg with reuse"] = {}
    for every in REUSED:
        joint_step(pipe, given, "joint-cfg", 3, watch, every)
        # One step more than a number of whole rounds: of the steps that are timed, every so many is full.
        steps = 1 + every * max(1, (options.steps - 1) // every)
        milliseconds, memory = joint_step(pipe, given, "joint-cfg", steps, watch, every)
        found["joint-cfg with reuse"][f"every {every}"] = {
            "ms per step": milliseconds,
            "ratio to diffusers": milliseconds / theirs["ms per step"],
            "peak memory GB": memory,
        }
    return {"clip": name_of(size.shape), "steps": options.steps} | found


def measure_split(pipe, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of each block in a step of joint-cfg, of each expert and of the Joint Blocks."""
    given, watch, steps = conditions(pipe, size, size.shape), Watch(pipe.device), 3
    joint_step(pipe, given, "joint-cfg", 2, watch)
    split = time_split(pipe.model, pipe.device)
    joint_step(pipe, given, "joint-cfg", steps, watch)
    watch.now()
    blocks = {name: total / steps for name, total in split.totals().items()}
    split.end()
    experts = {
        f"{expert} expert": sum(ms for name, ms in blocks.items() if name.startswith(expert))
        for expert in ("video", "audio")
    }
    return {"clip": name_of(size.shape), "ms per step": experts | blocks}


def measure_growth(pipe, size: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step of joint-cfg and peak memory, with frames and with size."""
    watch, found = Watch(pipe.device), {}
    for shape in size.growth:
        given = conditions(pipe, size, shape)
        joint_step(pipe, given, "joint-cfg", 2, watch)
        milliseconds, memory = joint_step(pipe, given, "joint-cfg", 5, watch)
        found[name_of(shape)] = {"ms per step": milliseconds, "peak memory GB": memory}
    return found


# Memory and training


def limited(device: torch.device, gigabytes: float | None) -> None:
    """What this process may take of the device; None is all of it."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(1.0 if gigabytes is None else gigabytes * 1e9 / total, device)


def measure_memory(pipe, size: Size, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Whole clips, from the picture's encoding to frames and sound, with the process limited to a figure."""
    device, found = pipe.device, []
    watch = Watch(device)
    for shape, gigabytes, memory in size.memory:
        pipe.set_memory(memory, device)
        watch.reset()
        limited(device, gigabytes)
        start, fits = watch.now(), True
        try:
            given = conditions(pipe, size, shape)
            guidance = JointCFG(mode="joint-cfg")
            settings = SamplingSettings(2, guidance=guidance, audio_grid="even", audio_substeps=1)
            latents = pipe.sample(given, settings)
            pipe.decode_video(latents.video)
            pipe.decode_audio(latents.audio, shape)
        except torch.OutOfMemoryError:
            fits = False
        finally:
            limited(device, None)
        found.append(
            {
                "clip": name_of(shape),
                "limit GB": gigabytes if device.type == "cuda" else None,
                "settings": vars(memory),
                "fits": fits if device.type == "cuda" else None,
                "peak memory GB": watch.peak(),
                "seconds of a clip of 2 steps": (watch.now() - start) / 1e3,
            }
        )
        given = latents = None
    return found


def measure_training(size: Size, device: torch.device) -> dict[str, Any]:
    """One optimizer step of each stage as `jointdit train` takes it: bfloat16, gradient checkpointing, one clip."""
    watch, found = Watch(device), {}
    for stage, gigabytes in (("a", 24), ("b", None)):
        watch.reset()
        pipe = pipeline(size, device, torch.float32)
        for name in ("video_vae", "image_encoder", "audio_vae", "vocoder"):  # clips are cached
            getattr(pipe, name).to("cpu")
        watch.reset()
        limited(device, gigabytes)
        try:
            seconds = training_step(pipe, size, stage, watch)
        except torch.OutOfMemoryError:
            seconds = None
        finally:
            limited(device, None)
        found[f"stage {stage}"] = {
            "clip": name_of(size.shape),
            "limit GB": gigabytes if device.type == "cuda" else None,
            "fits": seconds is not None,
            "peak memory GB": watch.peak(),
            "clips per second": None if seconds is None else 1 / seconds,
        }
        del pipe
    return found


def training_step(pipe: JointDiTPipeline, size: Size, stage: str, watch: Watch) -> float:
    """Seconds of the second of two optimizer steps: the first one makes the optimizer's state."""
    device, shape = pipe.model.video_unet.device, size.shape
    pipe.model.requires_grad_(False)
    trained = trained_module(pipe, stage).requires_grad_(True)
    pipe.model.gradient_checkpointing = True
    average = copy.deepcopy(trained).requires_grad_(False)
    optimizer = torch.optim.AdamW(trained.parameters())
    denoiser = JointDenoiser(pipe.model.train(), NoiseClock(pipe.video_scheduler, pipe.audio_scheduler))
    video = torch.randn(pipe.layout.video_shape(shape, 1), device=device)
    clean = JointLatents(video, torch.randn(pipe.layout.audio_shape(shape, 1), device=device))
    image = torch.randn(1, 1, size.dims[0], device=device)
    cond = join(image, video[:, 0], texts(size, device, torch.float32), shape.fps, 127, 0.02)
    for step in (1, 2):
        start = watch.now()
        with torch.autocast(device.type, torch.bfloat16):
            losses = denoiser.losses(clean, cond, torch.tensor([False]), torch.Generator().manual_seed(step))
            loss = sum(each.mean() for each in losses)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        update_average(average, trained, step, decay=0.997)
    return (watch.now() - start) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), help="float16, on a CPU float32")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=25, help="of each clip that is timed")
    parser.add_argument("--compile", metavar="BACKEND", help="of torch.compile, for both sides")
    parser.add_argument("--channels-last", action="store_true", help="for both sides")
    parser.add_argument("--audio-stream", action="store_true", help="the audio expert beside the video expert")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    size, device = SIZES[options.size], torch.device(options.device)
    dtype = getattr(torch, options.dtype or ("float16" if device.type == "cuda" else "float32"))
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "dtype")}
    result: dict[str, Any] = {
        "what": "random weights; "
        + (
            "the real experts' configurations"
            if options.size == "full"
            else "a small model: that it runs, not how fast"
        ),
        "machine": machine(device),
        "torch": torch.__version__,
        "settings": settings | {"dtype": str(dtype).removeprefix("torch.")},
    }
    torch.manual_seed(0)
    if "operations" in options.parts:
        result["operations"] = operations(size)
    if "layers" in options.parts:
        result["layers"] = fewer_layers(size)
    if "long" in options.parts:
        result["long"] = long_clips(size)
    measures = {"steps": measure_steps, "split": measure_split, "growth": measure_growth, "memory": measure_memory}
    asked = [name for name in measures if name in options.parts]
    if asked:
        pipe = pipeline(size, device, dtype)
        speed = Speed(options.channels_last, options.audio_stream, options.compile)
        for name in asked:
            # Hooks stand between compiled blocks, and blocks that come and go are not compiled.
            eager = name in ("split", "memory")
            pipe.set_speed(replace(speed, compile=None, audio_stream=False) if eager else speed)
            result[name] = measures[name](pipe, size, options)
        del pipe
    if "training" in options.parts:
        result["training"] = measure_training(size, device)
    text = json.dumps(rounded(result), indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def rounded(value: Any) -> Any:
    """Four digits of every number."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
