"""A latent cache to Joint Blocks."""

from __future__ import annotations

import copy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import comfy.model_management
import torch
from diffusers import AudioLDM2UNet2DConditionModel

from ...jointdit.checkpoints.joint_files import load_joint_blocks
from ...jointdit.errors import InputError
from ...jointdit.latents import ClipShape
from ...jointdit.train.cache import LatentCache
from ...jointdit.train.engine import Engine
from ...jointdit.train.precision import make_accelerator
from ...jointdit.train.run_folder import locked
from ...jointdit.train.stages import TEMPLATES, TrainingConfig, read_config
from .. import places
from .attention import joint_query_chunk
from .memory import DENOISING, ManagedModel
from .progress import LossCurve, Progress

BACKWARD = 6  # how much more memory a clip needs than a guidance pass of it, kept activations included


def train(
    model: ManagedModel,
    cache: Path,
    name: str,
    steps: int,
    batch: int,
    rate: float,
    training_seed: int,
    held_out: int,
    save_every: int,
    query_chunk: int = 0,
    video_pool: int = 1,
) -> tuple[ManagedModel, str]:
    """The model with the trained Joint Blocks, and the name of their file."""
    file = places.free_file(name)
    config = replace(
        read_config(TEMPLATES["a"]),
        cache=cache,
        output=places.state_folder(name),
        steps=steps,
        batch=batch,
        micro_batch=batch,
        rate=rate,
        seed=training_seed,
        held_out=held_out,
        save_every=save_every,
        query_chunk=query_chunk,
        video_pool=video_pool,
        precision=_precision(model),
        samples=0,
        tensorboard=False,
    )
    with torch.inference_mode(False), torch.enable_grad():
        _train(model, config, file)
        blocks = load_joint_blocks(file, model.pipe.joint_blocks.dtype)
    return model.with_components(joint_blocks=blocks), file.name


def _train(model: ManagedModel, config: TrainingConfig, file: Path) -> None:
    """Trains a copy of the model's Joint Blocks and writes what came of it; the model stays as it is."""
    cache, progress = LatentCache(config.cache), Progress(config.steps)
    cache.check(model.pipe)
    trained = model.with_components(
        joint_blocks=copy.deepcopy(model.pipe.joint_blocks).float(), audio_unet=_in_float32(model.pipe.audio_unet)
    )
    trained.pipe.joint_blocks.set_memory(config.query_chunk or joint_query_chunk(), config.video_pool)
    made = cache.encoding
    shape = ClipShape(made.frames, Fraction(made.fps), made.height, made.width)
    trained.load_for_training(DENOISING, BACKWARD * config.batch * model.pass_memory(shape))
    curve = LossCurve()

    def report(step: int, steps: int, loss: float) -> None:
        progress(step, steps, curve.draw(loss))

    on_cpu = comfy.model_management.get_torch_device().type == "cpu"
    accelerator = make_accelerator(config.precision, cpu=on_cpu)
    try:
        with locked(config.output):
            engine = Engine(trained.pipe, cache, config, accelerator, report)
            engine.train()
        file.parent.mkdir(parents=True, exist_ok=True)
        with engine.averaged():
            trained.pipe.save_joint_blocks(file)
    finally:
        trained.pipe.model.eval()  # the experts are the given model's, too


def _in_float32(audio_unet: AudioLDM2UNet2DConditionModel) -> AudioLDM2UNet2DConditionModel:
    """The audio expert as `jointdit train` computes it whatever the precision: autocast does not reach float32 weights
    (`AudioExpert`). Weights of lower precision are copied, because the expert is the given model's, too."""
    return audio_unet if audio_unet.dtype == torch.float32 else copy.deepcopy(audio_unet).float()


def _precision(model: ManagedModel) -> str:
    """Of the arithmetic, as ComfyUI sees the device."""
    device = comfy.model_management.get_torch_device()
    if comfy.model_management.should_use_bf16(device):
        return "bfloat16"
    if comfy.model_management.should_use_fp16(device):
        return "float16"
    if model.pipe.video_unet.dtype != torch.float32:
        raise InputError(f"{device} trains in float32 alone; take precision float32 in the load node")
    return "float32"
