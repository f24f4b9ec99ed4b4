"""The pipeline under ComfyUI's memory manager: each component is loaded before its use and may be evicted after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from ..jointdit.checkpoints.components import COMPONENTS, TEXT_ENCODERS
from ..jointdit.latents import ClipShape
from ..jointdit.pipeline import JointDiTPipeline
from .attention import follow_comfyui
from .progress import Progress

DENOISING = tuple(name for name, component in COMPONENTS.items() if component.role == "denoiser")
CONDITIONING = ("video_vae", "image_encoder", *TEXT_ENCODERS, "joint_blocks")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# The manager's own estimates: MiB for a latent pixel and byte of a UNet with fused attention, bytes for one of a VAE.
UNET_MIB = 0.02
VAE_VALUES = 2178 * 64


class ManagedPipeline(JointDiTPipeline):
    """Computes where ComfyUI says, wherever its components rest."""

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

    def __init__(self, pipe: ManagedPipeline, patchers: Mapping[str, ModelPatcher] | None = None) -> None:
        """patchers: of components that another model has, too."""
        self.pipe = pipe
        follow_comfyui(pipe)
        # Not CoreModelPatcher: where that one casts weights while they are used, it needs layers made for it.
        self.patchers = dict(patchers or {})
        for name in COMPONENTS:
            component = getattr(pipe, name)
            if name not in self.patchers and isinstance(component, nn.Module):
                self.patchers[name] = ModelPatcher(
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

    def load(self, names: Iterable[str], memory: float = 0) -> None:
        """Brings components to the device. memory: bytes that their use will need besides."""
        patchers = [self.patchers[name] for name in names if name in self.patchers]
        with torch.inference_mode(False):  # weights made in inference mode could not be trained
            comfy.model_management.load_models_gpu(patchers, memory_required=memory, force_full_load=True)

    def load_for_training(self, names: Iterable[str], memory: float) -> None:
        """The same, and autograd takes the weights: what other nodes moved in inference mode is copied out of it."""
        self.load(names, memory)
        for name in names:
            component = getattr(self.pipe, name)
            for tensor in (*component.parameters(), *component.buffers()):
                if tensor.is_inference():
                    tensor.data = tensor.data.clone()

    def start(self, names: Iterable[str], total: int, memory: float = 0) -> Progress:
        """What a node does before it computes: the components that it needs on the device, `total` steps on its bar."""
        progress = Progress(total)
        self.load(names, memory)
        return progress

    def pass_memory(self, shape: ClipShape) -> float:
        """Bytes that one guidance pass of one clip needs in the UNets."""
        _, frames, _, height, width = self.pipe.layout.video_shape(shape, 1)
        return frames * height * width * self.pipe.video_unet.dtype.itemsize * UNET_MIB * 2**20

    def rows_that_fit(self, shape: ClipShape) -> int:
        """How many passes of clips can be one batch in the memory that is free now; at least 1."""
        free = comfy.model_management.get_free_memory(self.pipe.device)
        return max(1, int(free / (1.5 * self.pass_memory(shape))))

    def decode_memory(self, height: int, width: int, frames: int) -> float:
        """Bytes that decoding `frames` frames of `height` x `width` latents at once needs."""
        return VAE_VALUES * height * width * frames * self.pipe.video_vae.dtype.itemsize


def dtype_of(precision: str) -> torch.dtype:
    """The asked precision; "auto" is ComfyUI's choice for this device and its own options."""
    if precision != "auto":
        return DTYPES[precision]
    chosen = comfy.model_management.unet_dtype(
        device=comfy.model_management.get_torch_device(), supported_dtypes=list(DTYPES.values())
    )
    return chosen if chosen in DTYPES.values() else torch.float32  # fp8 and fp64 are not for these layers
