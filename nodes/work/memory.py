"""The pipeline under ComfyUI's memory manager: each component is loaded before its use and may be evicted after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import comfy.cli_args
import comfy.model_management
import torch
from torch import nn

from ...jointdit.checkpoints.components import COMPONENTS, TEXT_ENCODERS
from ...jointdit.latents import ClipShape, JointLatents
from ...jointdit.pipeline import JointDiTPipeline
from ...jointdit.pipeline.preview import FastLoudness
from ...jointdit.runtime.memory import chunk_feed_forward
from .attention import FEWER_QUERIES, follow_comfyui, joint_query_chunk
from .layers import LayerPatcher, cast_at_use
from .progress import Progress

logger = logging.getLogger(__name__)
DENOISING = tuple(name for name, component in COMPONENTS.items() if component.role == "denoiser")
CONDITIONING = ("video_vae", "image_encoder", *TEXT_ENCODERS, "joint_blocks")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# The manager's own estimates: MiB for a latent pixel and byte of a UNet with fused attention, bytes for one of a VAE.
UNET_MIB = 0.02
VAE_VALUES = 2178 * 64


class ManagedPipeline(JointDiTPipeline):
    """Computes where ComfyUI says, wherever its components rest."""

    loader: Callable[[Sequence[str]], None] | None = None  # brings components to the device before they are used

    def using(self, *names: str) -> AbstractContextManager[None]:
        if self.loader is not None:
            self.loader(names)
        return nullcontext()

    @property
    def device(self) -> torch.device:
        return comfy.model_management.get_torch_device()


class Weights(nn.Module):
    """Holds one component. ComfyUI writes notes of its own, `device` among them, on the module that it manages, and
    diffusers' models do not let that attribute be set. Its log shows the name of the class."""

    @classmethod
    def of(cls, name: str, component: nn.Module) -> Weights:
        """In a class of its own: "JointDiT video unet" and so on."""
        return type(f"JointDiT {name.replace('_', ' ')}", (cls,), {})(component)

    def __init__(self, component: nn.Module) -> None:
        super().__init__()
        self.component = component


class ManagedModel:
    """A loaded model: the pipeline, and a patcher of the memory manager for each of its components."""

    def __init__(
        self, pipe: ManagedPipeline, patchers: Mapping[str, LayerPatcher] | None = None, identity: bool = False
    ) -> None:
        """patchers: of components that another model has, too.    identity: its Joint Blocks were never trained."""
        self.pipe, self.identity = pipe, identity
        follow_comfyui(pipe)
        self.patchers = dict(patchers or {})
        for name in COMPONENTS:
            component = getattr(pipe, name)
            if name not in self.patchers and isinstance(component, nn.Module):
                if name in DENOISING:  # the largest; the others are loaded whole
                    cast_at_use(component)
                # Not CoreModelPatcher: with that one the weights of these layers could not be trained.
                self.patchers[name] = LayerPatcher(
                    Weights.of(name, component),
                    load_device=comfy.model_management.get_torch_device(),
                    offload_device=comfy.model_management.unet_offload_device(),
                )

    def with_components(self, **others: nn.Module) -> ManagedModel:
        """The same components but for `others`. Each that stays keeps its one patcher: of two, one would move away what
        the other has loaded."""
        components: dict[str, Any] = {name: getattr(self.pipe, name) for name in COMPONENTS} | others
        patchers = {name: patcher for name, patcher in self.patchers.items() if name not in others}
        return ManagedModel(ManagedPipeline(**components, defaults=self.pipe.defaults), patchers)

    @cached_property
    def loudness(self) -> FastLoudness:
        """Read from the audio autoencoder at the first use."""
        self.load(["audio_vae"])
        give_to_autograd(self.pipe.audio_vae)
        return FastLoudness(self.pipe.audio_codec)

    def load(self, names: Iterable[str], memory: float = 0, whole: bool = False) -> None:
        """Brings components to the device; of the experts and Joint Blocks as many layers as there is room for, or,
        where it is asked, all. memory: bytes that their use will need besides."""
        patchers = [self.patchers[name] for name in names if name in self.patchers]
        with torch.inference_mode(False):  # weights made in inference mode could not be trained
            comfy.model_management.load_models_gpu(patchers, memory_required=memory, force_full_load=whole)

    def load_for_training(self, names: Iterable[str], memory: float) -> None:
        """All of them, and autograd takes the weights: what other nodes moved in inference mode is copied out of it."""
        self.load(names, memory, whole=True)
        for name in names:
            give_to_autograd(getattr(self.pipe, name))

    def start(self, names: Iterable[str], total: int, memory: float = 0) -> Progress:
        """What a node does before it computes: the components that it needs on the device, `total` steps on its bar."""
        progress = Progress(total)
        self.load(names, memory)
        return progress

    @contextmanager
    def loading_as_used(self, memory: float) -> Iterator[None]:
        """While it lasts, the pipeline asks for each component before it uses it. memory: bytes that denoising will
        need besides."""

        def load(names: Sequence[str]) -> None:
            self.load(names, memory if set(names) == set(DENOISING) else 0)

        self.pipe.loader = load
        try:
            yield
        finally:
            self.pipe.loader = None

    @contextmanager
    def interruptible(self, names: Iterable[str], progress: Progress) -> Iterator[None]:
        """While it lasts, Cancel acts before each block of these components, and the bar moves on. Nothing stays on
        them."""
        components = [component for name in names if isinstance(component := getattr(self.pipe, name), nn.Module)]

        def before_block(block: nn.Module, given: tuple[Any, ...]) -> None:
            progress.before_block()

        hooks = [
            block.register_forward_pre_hook(before_block)
            for component in components
            for part in component.modules()
            if isinstance(part, nn.ModuleList)
            for block in part
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def chunks(self, wanted: bool) -> Iterator[None]:
        """While it lasts, where it is wanted, layers compute parts of their input after each other."""
        if not wanted:
            yield
            return
        self.pipe.joint_blocks.set_memory(FEWER_QUERIES)
        chunk_feed_forward(self.pipe.video_unet, True)
        try:
            yield
        finally:
            self.pipe.joint_blocks.set_memory(joint_query_chunk())
            chunk_feed_forward(self.pipe.video_unet, False)

    def pass_memory(self, shape: ClipShape) -> float:
        """Bytes that one guidance pass of one clip needs in the UNets."""
        _, frames, _, height, width = self.pipe.layout.video_shape(shape, 1)
        return frames * height * width * self.pipe.video_unet.dtype.itemsize * UNET_MIB * 2**20

    def rows_that_fit(self, shape: ClipShape) -> int:
        """How many passes of clips can be one batch in the memory that is free now; at least 1."""
        free = comfy.model_management.get_free_memory(self.pipe.device)
        return max(1, int(free / (1.5 * self.pass_memory(shape))))

    def as_memory_allows(self, shape: ClipShape, rows: int, run: Callable[[int], JointLatents]) -> JointLatents:
        """Runs with so many rows of one evaluation at once, or with as many as fit. Where that was too much it starts
        anew with half as many, and last in chunks."""
        rows, in_chunks = min(rows, self.rows_that_fit(shape)), False
        while True:
            try:
                with self.chunks(in_chunks):
                    return run(rows)
            except comfy.model_management.OOM_EXCEPTION:
                if in_chunks:
                    raise
                rows, in_chunks = max(1, rows // 2), rows == 1
                smaller = "parts of its layers" if in_chunks else f"{rows} passes"
                logger.warning("JointDiT: not enough memory to sample so much at once; trying %s at once", smaller)
            comfy.model_management.soft_empty_cache()

    def decode_memory(self, height: int, width: int, frames: int) -> float:
        """Bytes that decoding `frames` frames of `height` x `width` latents at once needs."""
        return VAE_VALUES * height * width * frames * self.pipe.video_vae.dtype.itemsize


def give_to_autograd(component: nn.Module) -> None:
    """Copies weights that were moved in inference mode, which autograd refuses, out of it."""
    with torch.inference_mode(False):
        for tensor in (*component.parameters(), *component.buffers()):
            if tensor.is_inference():
                tensor.data = tensor.data.clone()


def dtype_of(precision: str) -> torch.dtype:
    """The asked precision; "auto" is ComfyUI's choice for this device and its own options."""
    if precision != "auto":
        return DTYPES[precision]
    device, supported = comfy.model_management.get_torch_device(), list(DTYPES.values())
    chosen = comfy.model_management.unet_dtype(device=device, supported_dtypes=supported)
    if chosen in supported:
        return chosen
    computed = comfy.model_management.unet_manual_cast(chosen, device, supported) or torch.float32
    logger.warning("JointDiT: these layers have no %s weights; they are kept in %s", chosen, computed)
    return computed


def follow_options(pipe: JointDiTPipeline) -> None:
    """Gives autoencoders and text encoders the precision of ComfyUI's own options (--fp32-vae, --bf16-text-enc and so
    on), where there is one."""
    options = comfy.cli_args.args
    kinds = {"vae": ("video_vae", "audio_vae", "vocoder"), "text_enc": TEXT_ENCODERS}
    short = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    for kind, names in kinds.items():
        asked = [dtype for name, dtype in short.items() if getattr(options, f"{name}_{kind}")]
        components = [component for name in names if isinstance(component := getattr(pipe, name), nn.Module)]
        for component in components if asked else ():
            component.to(asked[0])
    if options.fp8_e4m3fn_text_enc or options.fp8_e5m2_text_enc:
        logger.warning("JointDiT: text encoders have no float8 weights; they are kept in %s", pipe.video_unet.dtype)
