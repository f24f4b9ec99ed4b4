"""A latent cache to Joint Blocks."""

from __future__ import annotations

import copy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import comfy.model_management
import torch
from comfy_api.latest import io
from diffusers import AudioLDM2UNet2DConditionModel

from ..jointdit.checkpoints.joint_files import load_joint_blocks
from ..jointdit.errors import InputError
from ..jointdit.latents import ClipShape
from ..jointdit.train.cache import LatentCache
from ..jointdit.train.engine import Engine
from ..jointdit.train.precision import make_accelerator
from ..jointdit.train.run_folder import locked
from ..jointdit.train.stages import TEMPLATES, TrainingConfig, read_config
from . import folders, places
from .attention import joint_query_chunk
from .memory import DENOISING, ManagedModel
from .progress import LossCurve, Progress
from .sockets import CATEGORY, Cache, Model, model_input

BACKWARD = 6  # how much more memory a clip needs than a guidance pass of it, kept activations included


class Train(io.ComfyNode):
    """Stage A: the experts stay as they are, the Joint Blocks and the image-to-audio adapter learn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTTrain",
            display_name="JointDiT Train",
            category=CATEGORY,
            description="Trains the Joint Blocks, through which sound and picture see each other, on a latent cache. "
            "Cancel keeps the state: the same settings queued again go on from there.",
            search_aliases=["finetune", "training", "joint block file", "learn"],
            is_experimental=True,
            is_output_node=True,
            inputs=[
                model_input(),
                Cache.Input("cache", tooltip="From JointDiT Cache Latents with the same model."),
                io.String.Input(
                    "name",
                    default="my_joint_blocks",
                    tooltip="Name of the result, models/jointdit/NAME.safetensors. The state is in "
                    "output/jointdit/training/NAME; an existing training of that name is continued.",
                ),
                io.Int.Input(
                    "steps",
                    default=1000,
                    min=1,
                    max=10_000_000,
                    tooltip="Training ends after so many steps. 1000 show that it learns; a good result takes more.",
                ),
                io.Int.Input(
                    "batch",
                    default=8,
                    min=1,
                    max=4096,
                    tooltip="Clips of a step. If memory runs out, fewer are computed at once, which changes no result.",
                ),
                io.Float.Input(
                    "rate",
                    default=1e-4,
                    min=1e-7,
                    max=1e-1,
                    step=1e-7,
                    tooltip="The learning rate at its peak: a linear start, then half a cosine down to zero.",
                ),
                io.Int.Input(
                    "training_seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    tooltip="Fixes the order of the clips and all their noise.",
                    advanced=True,
                ),
                io.Int.Input(
                    "held_out",
                    default=1,
                    min=1,
                    max=10_000,
                    tooltip="Clips of the cache that are never trained on; the log has their loss.",
                    advanced=True,
                ),
                io.Int.Input(
                    "save_every",
                    default=100,
                    min=1,
                    max=1_000_000,
                    tooltip="Steps between states on disk. Cancel saves one, too; only a crash loses what came after.",
                    advanced=True,
                ),
                io.Int.Input(
                    "query_chunk",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Queries that a Joint Block attends with at once: fewer take less memory and change no "
                    "result. 0: all, unless ComfyUI was told to save memory (--use-split-cross-attention).",
                    optional=True,  # graphs that were saved before this input was added stay valid
                    advanced=True,
                ),
                io.Int.Input(
                    "video_pool",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Joint Blocks attend to averages of so many by so many video tokens, for less memory: an "
                    "approximation. 1: none.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[
                Model.Output("model", display_name="model", tooltip="The same model with the trained Joint Blocks."),
                io.String.Output(
                    "file", display_name="file", tooltip="Name of the Joint Block file in models/jointdit."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        return folders.complaint(places.free_file, name)

    @classmethod
    def execute(
        cls,
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
    ) -> io.NodeOutput:
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
        return io.NodeOutput(model.with_components(joint_blocks=blocks), file.name)


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
