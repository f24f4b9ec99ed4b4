"""Bytes and operations of a training step at the size of the real experts, counted without a GPU.

    python tests/benchmarks/training_memory.py --json docs/logs/training_memory.json

One clip of 14 frames 320x576 in bfloat16, with the objective of the stages' files: Stage A, Stage B with low-rank
adapters, and Stage B in full with AdamW and with AdamW in eight bits. Weights, gradients, moments and the average are
counted from the parameters; results that are alive at once, from the tensors of a forward and a backward pass on the
meta device, with and without gradient checkpointing. A GPU's libraries and its allocator take more than that.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from full_size import SIZES, LiveBytes, Operations, Size, rounded, size_of
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from jointdit.diffusion.denoiser import JointDenoiser
from jointdit.diffusion.schedules import Levels
from jointdit.latents import JointLatents
from jointdit.recipes.tiny.architecture import noise_clock
from jointdit.recipes.tiny.recipe import Sampling
from jointdit.train.adapters import add_adapters
from jointdit.train.losses import AudioDraws, PairLosses
from jointdit.train.stages import TEMPLATES, read_config

PEAK, UTILISATION = 989.0, 0.35  # TFLOP/s of an H100 in bfloat16 without sparsity, and the share that is assumed
TARGETS = "to_q, to_k, to_v, to_out.0"  # as in stage_b.toml


@dataclass(frozen=True)
class Way:
    """A way of training. rank: of the adapters, 0 for none. moments: bytes of Adam's two for each parameter."""

    stage: str
    rank: int = 0
    moments: float = 8.0


WAYS = {
    "Stage A": Way("a"),
    "Stage B, adapters of rank 16": Way("b", rank=16),
    "Stage B": Way("b"),
    "Stage B, optimizer in eight bits": Way("b", moments=2.0),
}


class FusedAttention(torch.autograd.Function):
    """What a fused kernel keeps for the backward pass: queries, keys, values, the result and a number for each query.

    flops: counted here: two products forward, five backward.
    """

    flops = 0

    @staticmethod
    def forward(ctx, query, key, value):
        sums = torch.empty(query.shape[:-1], device=query.device)
        ctx.save_for_backward(query, key, value, torch.empty_like(query), sums)
        FusedAttention.flops += 4 * query.numel() * key.shape[-2]
        return torch.empty_like(query)

    @staticmethod
    def backward(ctx, *gradients):
        query, key, value = ctx.saved_tensors[:3]
        FusedAttention.flops += 10 * query.numel() * key.shape[-2]
        return tuple(torch.empty_like(each) for each in (query, key, value))


@contextmanager
def as_on_a_gpu():
    """Attention is fused, and norms are computed in float32, as autocast has it; the model is in bfloat16."""

    def in_float32(norm):
        def call(x, *args, **options):
            args, options = (
                [each.float() if isinstance(each, Tensor) else each for each in args],
                {name: each.float() if isinstance(each, Tensor) else each for name, each in options.items()},
            )
            return norm(x.float(), *args, **options).to(x.dtype)

        return call

    with ExitStack() as stack:
        for name in ("group_norm", "layer_norm"):
            stack.enter_context(patch.object(functional, name, in_float32(getattr(functional, name))))
        fused = patch.object(
            functional, "scaled_dot_product_attention", lambda *qkv, **_: FusedAttention.apply(*qkv[:3])
        )
        stack.enter_context(fused)
        yield


def learned(model: nn.Module, way: Way) -> nn.Module:
    model.requires_grad_(False)
    if way.rank:
        return add_adapters(model, way.rank, TARGETS, seed=0).requires_grad_(True)
    return (model.joint_blocks if way.stage == "a" else model).requires_grad_(True)


def frozen_size(module: nn.Module) -> int:
    """Number of weights that do not learn."""
    return sum(parameter.numel() for parameter in module.parameters() if not parameter.requires_grad)


def passes(count: Operations, size: Size, checkpointing: bool) -> tuple[float, float]:
    """GB alive at once in a forward and a backward pass, without weights and gradients, and TFLOP.

    Of a clip that is not isolated, with the objective of the stages' files. The audio expert, which stays in float32,
    is counted in bfloat16.
    """
    config = read_config(TEMPLATES["a"])
    model = count.model.train()
    model.gradient_checkpointing = checkpointing
    video, audio, level, _, cond = count.inputs(size.shape, rows=1)
    clean, cond = JointLatents(video[:, :, :4], audio), cond.to(torch.bfloat16)
    noise, levels = clean.map(torch.empty_like), Levels(level, level, level)
    pair = PairLosses(JointDenoiser(model, noise_clock(Sampling())), config.audio_weight)

    def substeps(times: int) -> AudioDraws:
        repeated = level.repeat(times)
        return AudioDraws(Levels(repeated, repeated, repeated), audio.repeat(times, 1, 1, 1))

    gradients = [torch.empty_like(each) for each in model.parameters() if each.requires_grad]
    for parameter, gradient in zip(filter(lambda each: each.requires_grad, model.parameters()), gradients, strict=True):
        parameter.grad = gradient

    def run() -> None:
        joint = pair.joint(clean, noise, levels, cond, torch.tensor([False]), substeps(config.audio_substeps))
        given = pair.given_video(clean, noise, levels, cond, substeps(config.given_video))
        (joint.video.mean() + joint.audio.mean() + joint.substeps.mean() + given.mean()).backward()

    live = LiveBytes(model)
    live.known |= {each.untyped_storage()._cdata for each in gradients}
    with live, as_on_a_gpu():
        run()
    FusedAttention.flops = 0
    with FlopCounterMode(display=False) as counter, as_on_a_gpu():  # apart: it keeps results alive
        run()
    return live.peak / 1e9, (counter.get_total_flops() + FusedAttention.flops) / 1e12


def measure(size: Size, way: Way) -> dict[str, Any]:
    """GB by what takes it, their sums, and TFLOP, of one clip."""
    count = Operations(size)
    trained = learned(count.model, way)
    number = size_of(trained) / 1e9
    kept = {
        "video expert, frozen (bfloat16)": 2 * frozen_size(count.model.video_unet) / 1e9,
        "audio expert, frozen (float32)": 4 * frozen_size(count.model.audio_unet) / 1e9,
        "weights that learn (float32)": 4 * number,
        "their copies of autocast (bfloat16)": 2 * number,
        "gradients (float32)": 4 * number,
        "optimizer": way.moments * number,
    }
    found: dict[str, Any] = {"million parameters that learn": 1e3 * number, "GB": kept}
    count.model.to(torch.bfloat16)
    for name, checkpointing in (("plain", False), ("checkpointing", True)):
        peak, found[f"TFLOP, {name}"] = passes(count, size, checkpointing)
        found[f"GB of a clip, {name}"] = peak
        found[f"GB in all, {name}"] = sum(kept.values()) + peak
    return found | {"GB of the average": 4 * number}


def table(log: dict[str, Any]) -> str:
    """The rows of docs/training-at-scale.md."""
    ways = log["ways"]
    lines = ["| GB | " + " | ".join(ways) + " |", "|---|" + "---|" * len(ways)]
    first = next(iter(ways.values()))

    def row(name: str, values: list[float]) -> None:
        lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |")

    row("million parameters that learn", [way["million parameters that learn"] for way in ways.values()])
    for name in first["GB"]:
        row(name, [way["GB"][name] for way in ways.values()])
    for name, shown in (("plain", "activations kept"), ("checkpointing", "gradient checkpointing")):
        row(f"one clip, {shown}", [way[f"GB of a clip, {name}"] for way in ways.values()])
        row(f"**in all, {shown}**", [way[f"GB in all, {name}"] for way in ways.values()])
    row("the average, on the device or the host", [way["GB of the average"] for way in ways.values()])
    for name, shown in (("plain", "activations kept"), ("checkpointing", "gradient checkpointing")):
        row(f"TFLOP of a clip, {shown}", [way[f"TFLOP, {name}"] for way in ways.values()])
    return "\n".join(lines)


def hours_table(log: dict[str, Any]) -> str:
    """Hours of a million clips at an assumed utilisation."""
    ways = log["ways"]
    lines = ["| hours | " + " | ".join(ways) + " |", "|---|" + "---|" * len(ways)]
    for name, shown in (("plain", "activations kept"), ("checkpointing", "gradient checkpointing")):
        for gpus in (1, 8):
            hours = [1e6 * way[f"TFLOP, {name}"] / (PEAK * UTILISATION * gpus) / 3600 for way in ways.values()]
            device = "one GPU" if gpus == 1 else f"{gpus} GPUs"
            lines.append(f"| {device}, {shown} | " + " | ".join(f"{each:.1f}" for each in hours) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tables", type=Path, help="print the tables of a result instead")
    options = parser.parse_args()
    if options.tables:
        log = json.loads(options.tables.read_text())
        print(table(log), hours_table(log), sep="\n\n")
        return
    size = SIZES[options.size]
    ways = {name: measure(size, way) for name, way in WAYS.items()}
    text = json.dumps(rounded({"torch": torch.__version__, "size": options.size, "ways": ways}), indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
