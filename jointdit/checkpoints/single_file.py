"""Stable Video Diffusion as one file, the way it lies in ComfyUI's models/checkpoints (svd.safetensors).

The file holds the whole model under the names of its original code and no config: the configs are the published ones.
Every tensor of a component is looked up under its original name, and a name that no component asks for is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from ..errors import InputError, some
from ..media.files import source_file
from .finite import check_finite
from .single_file_names import PICTURE_VAE, UNET, VAE, VISION, Models, Source, component_sources

# The other parts of the original code's model: CLIP's text tower, the second decoder, averages.
UNREAD = ("conditioner.", "first_stage_model.", "denoiser.", "model_ema.")

EPSILON = 1e-5  # of the original's residual blocks
FRAMES, FRAMES_XT = 14, 25

# As published in the folders `unet`, `vae`, `image_encoder`, `scheduler` of stable-video-diffusion-img2vid.
CONFIGS: dict[str, dict[str, Any]] = {
    "video_unet": {
        "sample_size": 96,
        "in_channels": 8,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * 3 + ("DownBlockSpatioTemporal",),
        "up_block_types": ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 3,
        "block_out_channels": (320, 640, 1280, 1280),
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 768,
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "transformer_layers_per_block": 1,
        "num_attention_heads": (5, 10, 20, 20),
    },
    "video_vae": {
        "sample_size": 768,
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
        "force_upcast": True,
    },
    "image_encoder": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "projection_dim": 1024,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
    },
    "video_scheduler": {
        "prediction_type": "v_prediction",
        "timestep_type": "continuous",
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "use_karras_sigmas": True,
        "sigma_min": 0.002,
        "sigma_max": 700.0,
        "interpolation_type": "linear",
    },
}


def load_single_file(path: Path, dtype: torch.dtype = torch.float32, frames: int | None = None) -> dict[str, Any]:
    """The five components of Stable Video Diffusion from one file.

    frames: how many the weights were finetuned for, 14 or 25. They do not show it; where None the file's name tells
    (25 with "xt" in it, else 14 with "svd" or "img2vid").

    Raises InputError that names the file, and the tensor that is missing, unknown, misshapen or not finite.
    """
    path = source_file(path)
    models = empty_components(frames or frames_of(path))
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
            sources = {name: component_sources(model, shapes) for name, model in models.items()}
            check(path, shapes, sources)
            for name, model in models.items():
                tensors = model.state_dict()
                for ours, theirs in sources[name].items():
                    tensors[ours] = theirs.take(file.get_tensor(theirs.key)).to(dtype)
                    check_finite(path, {theirs.key: tensors[ours]})
                model.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, assign=True)
                model.eval()
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error}); fetch it again") from error
    return {
        **models,
        "video_scheduler": EulerDiscreteScheduler(**CONFIGS["video_scheduler"]),
        "feature_extractor": CLIPImageProcessor(),  # its defaults are the published ones
    }


def frames_of(path: Path) -> int:
    """What the file's name says about the number of frames."""
    words = re.findall(r"[a-z]+", path.stem.lower())
    if {"xt", "svdxt"} & set(words):
        return FRAMES_XT
    if {"svd", "img", "vid"} & set(words):
        return FRAMES
    raise InputError(
        f"{path}: neither the weights nor the name tell whether it was made for {FRAMES} or {FRAMES_XT} frames; give "
        "--expert-frames (frames= in Python), or the file a name with svd or svd_xt"
    )


def empty_components(frames: int) -> dict[str, Models]:
    """The three models with their published configs. Their weights are empty, but for the VAE's `quant_conv`.

    That one is the identity: a file whose encoder has none of its own has it inside its last convolution.
    """
    with init_empty_weights(include_buffers=False):
        unet = UNetSpatioTemporalConditionModel(**CONFIGS["video_unet"], num_frames=frames)
        vae = AutoencoderKLTemporalDecoder(**CONFIGS["video_vae"])
        image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**CONFIGS["image_encoder"]))
    align_epsilon(unet, EPSILON)
    moments = vae.quant_conv.in_channels
    vae.quant_conv = nn.Conv2d(moments, moments, 1)
    nn.init.dirac_(vae.quant_conv.weight)
    nn.init.zeros_(vae.quant_conv.get_parameter("bias"))
    return {"video_unet": unet, "video_vae": vae, "image_encoder": image_encoder}


def align_epsilon(unet: UNetSpatioTemporalConditionModel, epsilon: float) -> None:
    """Gives all residual blocks the original's epsilon; diffusers' class has 1e-6 in most, 4e-5 of a prediction.

    It stays in the config, so that a saved model is the same when it is loaded again.
    """
    unet.register_to_config(_resnet_epsilon=epsilon)
    for block in unet.modules():
        if isinstance(block, ResnetBlock2D | TemporalResnetBlock):
            block.norm1.eps = block.norm2.eps = epsilon


def check(path: Path, shapes: Mapping[str, tuple[int, ...]], sources: Mapping[str, Mapping[str, Source]]) -> None:
    """Compares the names and shapes in the file with those that the components ask for."""
    wanted = {source.key: source.shape for each in sources.values() for source in each.values()}
    hint = "a complete Stable Video Diffusion file (svd.safetensors, svd_xt.safetensors) is needed"
    if missing := sorted(wanted.keys() - shapes.keys()):
        raise InputError(f"{path}: lacks {some(missing)}; {hint}")
    read = (UNET, f"{VAE}decoder.", f"{PICTURE_VAE}encoder.", VISION)
    for key in sorted(shapes.keys() - wanted.keys()):
        if key.startswith(read) or not key.startswith(UNREAD):
            raise InputError(f"{path}: has {key}, which Stable Video Diffusion does not know; {hint}")
    for key, shape in wanted.items():
        if shapes[key] != shape:
            raise InputError(f"{path}: {key} has shape {list(shapes[key])}, but {list(shape)} is needed; {hint}")
