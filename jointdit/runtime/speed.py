"""Speed settings of a pipeline. None of them changes a number beyond rounding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..errors import InputError
from ..models.model import JointDiTModel
from .offload import unet_blocks


@dataclass(frozen=True)
class Speed:
    """channels_last: convolutions of both UNets in the memory format that tensor cores take.
    audio_stream: the audio expert, whose many small kernels leave a GPU idle, runs beside the video expert (CUDA).
    compile: a backend of torch.compile ("inductor"), for each block of both UNets and each Joint Block by itself; the
    first step then takes minutes, and so does the first step of another size.
    """

    channels_last: bool = False
    audio_stream: bool = False
    compile: str | None = None


def set_speed(model: JointDiTModel, speed: Speed, device: torch.device) -> None:
    """Sets up a model that is in its place. Raises InputError where the device has no streams."""
    if speed.audio_stream and device.type != "cuda":
        raise InputError(f"audio_stream: only CUDA has streams, and the model is on {device.type}; leave it out")
    unets = (model.video_unet, model.audio_unet)
    layout = torch.channels_last if speed.channels_last else torch.contiguous_format
    for layer in (layer for unet in unets for layer in unet.modules() if isinstance(layer, nn.Conv2d)):
        layer.to(memory_format=layout)  # pyright: ignore[reportCallIssue]: torch's overloads lack this argument
    model.audio_stream = torch.cuda.Stream(device) if speed.audio_stream else None
    model.compiled = {"backend": speed.compile, "dynamic": False} if speed.compile else None
    for block in (*(block for unet in unets for block in unet_blocks(unet)), *model.joint_blocks.blocks):
        if model.compiled is not None:
            block.compile(**model.compiled)
        else:
            block._compiled_call_impl = None


def graphs_compiled() -> int:
    """How many graphs torch.compile has made in this process. It stands still when nothing is compiled again."""
    from torch._dynamo.utils import counters  # takes a second, and few compile

    return counters["stats"]["unique_graphs"]
