"""A latent cache to Joint Blocks, and to experts that learned with them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import comfy.model_management
import torch
from diffusers import AudioLDM2UNet2DConditionModel
from torch import nn

from ...jointdit.checkpoints.adapter_files import adapter_files, fuse_adapter, save_adapters
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
from .memory import DENOISING, ManagedModel, ManagedPipeline
from .progress import LossCurve, Progress

BACKWARD = 6  # how much more memory a clip needs than a guidance pass of it, kept activations included
WHOLE = 12  # bytes for each weight of the experts that learns besides itself: its gradient, and two of the optimizer


@dataclass(frozen=True)
class _Result:
    """Where a training writes: a Joint Block file (stage a), with a folder of adapters beside it, or a model folder.
    folder: of stage b."""

    file: Path
    folder: Path

    @classmethod
    def of(cls, config: TrainingConfig, name: str) -> _Result:
        """Raises InputError where something would be replaced that this training did not write."""
        return cls(places.free_file(name), places.free_folder(name) if config.stage == "b" else Path())


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
    stage: str = "a",
    adapter_rank: int = 0,
    precision: str = "auto",
    memory: str = "auto",
    micro_batch: int = 0,
    gradient_checkpointing: bool = False,
) -> tuple[ManagedModel, str]:
    """The model with what was trained, and the name of the file or folder that it is in."""
    if memory == "auto" and (micro_batch or gradient_checkpointing):
        raise InputError("micro_batch and gradient_checkpointing are chosen where memory is auto; set memory to fixed")
    template = read_config(TEMPLATES[stage])
    config = replace(
        template,
        cache=cache,
        output=places.state_folder(name),
        steps=steps,
        batch=batch,
        micro_batch=micro_batch or batch,
        gradient_checkpointing=template.gradient_checkpointing if memory == "auto" else gradient_checkpointing,
        memory=memory,
        rate=rate,
        adapter_rank=adapter_rank,
        seed=training_seed,
        held_out=held_out,
        save_every=save_every,
        query_chunk=query_chunk,
        video_pool=video_pool,
        precision=_precision(model, precision),
        samples=0,
        tensorboard=False,
    )
    result = _Result.of(config, name)
    with torch.inference_mode(False), torch.enable_grad():
        _train(model, config, result)
        whole = stage == "b" and not adapter_rank
        return _trained(model, config, result), (result.folder if whole else result.file).name


def _train(model: ManagedModel, config: TrainingConfig, result: _Result) -> None:
    """Trains a copy of what learns and writes what came of it; the model stays as it is."""
    cache, progress = LatentCache(config.cache), Progress(config.steps)
    cache.check(model.pipe)
    trained = model.with_components(**_copies(model, config))
    trained.pipe.joint_blocks.set_memory(config.query_chunk or joint_query_chunk(), config.video_pool)
    made = cache.encoding
    shape = ClipShape(made.frames, Fraction(made.fps), made.height, made.width)
    memory = BACKWARD * config.batch * model.pass_memory(shape)
    if config.stage == "b" and not config.adapter_rank:
        weights = sum(weight.numel() for weight in trained.pipe.model.parameters())
        memory += WHOLE * weights
    trained.load_for_training(DENOISING, memory)
    curve = LossCurve()

    def report(step: int, steps: int, loss: float) -> None:
        progress(step, steps, curve.draw(loss))

    on_cpu = comfy.model_management.get_torch_device().type == "cpu"
    accelerator = make_accelerator(config.precision, cpu=on_cpu)
    try:
        with locked(config.output):
            engine = Engine(trained.pipe, cache, config, accelerator, report)
            engine.train()
        _write(engine, result)
    finally:
        trained.pipe.model.eval()  # the experts are the given model's, too


def _copies(model: ManagedModel, config: TrainingConfig) -> dict[str, nn.Module]:
    """What learns, and the audio expert in float32, apart from the given model's own."""
    pipe = model.pipe
    blocks = copy.deepcopy(pipe.joint_blocks).float()
    if config.stage == "a":
        return {"joint_blocks": blocks, "audio_unet": _in_float32(pipe.audio_unet)}
    video, audio = copy.deepcopy(pipe.video_unet), copy.deepcopy(pipe.audio_unet).float()
    return {"joint_blocks": blocks, "video_unet": video if config.adapter_rank else video.float(), "audio_unet": audio}


def _write(engine: Engine, result: _Result) -> None:
    """The averaged weights."""
    pipe, config = engine.pipe, engine.config
    result.file.parent.mkdir(parents=True, exist_ok=True)
    with engine.averaged():
        if config.stage == "b" and not config.adapter_rank:
            pipe.save_pretrained(result.folder)
            return
        if config.adapter_rank:
            from ...jointdit.train.adapters import matrices  # needs peft, which is there by now

            save_adapters(result.folder, matrices(cast(nn.ModuleDict, engine.trained)))
        pipe.save_joint_blocks(result.file)


def _trained(model: ManagedModel, config: TrainingConfig, result: _Result) -> ManagedModel:
    """The given model with what was written."""
    pipe = model.pipe
    if config.stage == "b" and not config.adapter_rank:
        whole = ManagedPipeline.from_pretrained(result.folder, pipe.video_unet.dtype)
        return model.with_components(**{name: getattr(whole, name) for name in DENOISING})
    experts: dict[str, nn.Module] = {}
    for component, path in adapter_files(result.folder).items() if config.adapter_rank else ():
        experts[component] = copy.deepcopy(getattr(pipe, component))
        fuse_adapter(experts[component], path)
    return model.with_components(joint_blocks=load_joint_blocks(result.file, pipe.joint_blocks.dtype), **experts)


def _in_float32(audio_unet: AudioLDM2UNet2DConditionModel) -> AudioLDM2UNet2DConditionModel:
    """The audio expert as `jointdit train` computes it whatever the precision: autocast does not reach float32 weights
    (`AudioExpert`). Weights of lower precision are copied, because the expert is the given model's, too."""
    return audio_unet if audio_unet.dtype == torch.float32 else copy.deepcopy(audio_unet).float()


def _precision(model: ManagedModel, asked: str) -> str:
    """Of the arithmetic: what is asked, or as ComfyUI sees the device. Raises InputError where it cannot be."""
    device = comfy.model_management.get_torch_device()
    if asked == "auto":
        if comfy.model_management.should_use_bf16(device):
            return "bfloat16"
        if comfy.model_management.should_use_fp16(device):
            return "float16"
    if asked == "float16" and device.type == "cpu":
        raise InputError("precision float16 trains on a GPU alone; take auto, bfloat16 or float32")
    if asked in ("auto", "float32") and model.pipe.video_unet.dtype != torch.float32:
        why = f"{device} trains in float32 alone" if asked == "auto" else "precision is float32, but the model's is not"
        raise InputError(f"{why}; take precision float32 in the load node")
    return "float32" if asked == "auto" else asked
