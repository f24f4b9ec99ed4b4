"""Stable Video Diffusion as one file, the way it lies in ComfyUI's models/checkpoints (svd.safetensors).

The file holds the whole model under the names of its original code and no config: the configs are the published ones.
Every tensor of a component is looked up under its original name, and a name that no component asks for is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from ..errors import InputError, some
from ..media.files import source_file

UNET = "model.diffusion_model."
VAE = "first_stage_model."
VISION = "conditioner.embedders.0.open_clip.model.visual."
# The autoencoder that encodes the picture. It has the `quant_conv` that `first_stage_model` lacks.
PICTURE_VAE = "conditioner.embedders.3.encoder."
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

RESNET = {
    "spatial_res_block": None,
    "temporal_res_block": "time_stack",
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"temporal_transformer_blocks": "time_stack"}
LINEAR = {"linear_1": "0", "linear_2": "2"}
VAE_RESNET = {"spatial_res_block": None, "time_mixer": None, "conv_shortcut": "nin_shortcut"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out", "0": None}
VISION_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "fc1": "c_fc",
    "fc2": "c_proj",
}


@dataclass(frozen=True)
class Source:
    """Where a tensor is in the file: under `key`, in this shape; `take` makes it the component's."""

    key: str
    shape: tuple[int, ...]
    take: Callable[[Tensor], Tensor] = lambda tensor: tensor


def load_single_file(path: Path, dtype: torch.dtype = torch.float32, frames: int | None = None) -> dict[str, Any]:
    """The five components of Stable Video Diffusion from one file.

    frames: how many the weights were finetuned for, 14 or 25. They do not show it; where None the file's name tells
    (25 with "xt" in it, else 14 with "svd" or "img2vid").

    Raises InputError that names the file, and the tensor that is missing, unknown or misshapen.
    """
    path = source_file(path)
    models = empty_components(frames or frames_of(path))
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
            sources = {name: component_sources(name, model, shapes) for name, model in models.items()}
            check(path, shapes, sources)
            for name, model in models.items():
                tensors = model.state_dict()
                for ours, theirs in sources[name].items():
                    tensors[ours] = theirs.take(file.get_tensor(theirs.key))
                model.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, assign=True)
                model.eval()
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error}); fetch it again") from error
    align_epsilon(models["video_unet"], EPSILON)
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
        "the number of frames, or the file a name with svd or svd_xt"
    )


def empty_components(frames: int) -> dict[str, nn.Module]:
    """The three models with their published configs. Their weights are empty, but for the VAE's `quant_conv`.

    That one is the identity: a file whose encoder has none of its own has it inside its last convolution.
    """
    with init_empty_weights(include_buffers=False):
        unet = UNetSpatioTemporalConditionModel(**CONFIGS["video_unet"], num_frames=frames)
        vae = AutoencoderKLTemporalDecoder(**CONFIGS["video_vae"])
        image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**CONFIGS["image_encoder"]))
    moments = vae.quant_conv.in_channels
    vae.quant_conv = nn.Conv2d(moments, moments, 1)
    nn.init.dirac_(vae.quant_conv.weight)
    nn.init.zeros_(vae.quant_conv.bias)
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


def component_sources(name: str, model: nn.Module, keys: Container[str]) -> dict[str, Source]:
    """The source of every tensor of a component in a file that has `keys`, by the tensor's own name."""
    encoder = PICTURE_VAE if f"{PICTURE_VAE}encoder.conv_in.weight" in keys else VAE
    sources = {}
    for ours, tensor in model.state_dict().items():
        shape, words = tuple(tensor.shape), ours.split(".")
        if name == "video_unet":
            sources[ours] = Source(UNET + unet_key(model, words), shape)
        elif name == "image_encoder":
            sources[ours] = vision_source(words, shape)
        elif words[0] != "quant_conv" or encoder == PICTURE_VAE or f"{VAE}quant_conv.weight" in keys:
            sources[ours] = vae_source(VAE if words[0] == "decoder" else encoder, model, words, shape)
    return sources


def unet_key(unet: UNetSpatioTemporalConditionModel, words: list[str]) -> str:
    """The original name of a tensor of the UNet, whose blocks are counted through from 0 there."""
    stride = unet.config.layers_per_block + 1
    match words:
        case ["time_embedding", linear, end]:
            return f"time_embed.{LINEAR[linear]}.{end}"
        case ["add_embedding", linear, end]:
            return f"label_emb.0.{LINEAR[linear]}.{end}"
        case ["conv_in", end]:
            return f"input_blocks.0.0.{end}"
        case ["conv_norm_out", end]:
            return f"out.0.{end}"
        case ["conv_out", end]:
            return f"out.2.{end}"
        case ["down_blocks", block, "downsamplers", _, _, end]:
            return f"input_blocks.{(int(block) + 1) * stride}.0.op.{end}"
        case ["up_blocks", block, "upsamplers", _, _, end]:
            before = 1 + hasattr(unet.up_blocks[int(block)], "attentions")
            return f"output_blocks.{(int(block) + 1) * stride - 1}.{before}.conv.{end}"
        case ["mid_block", kind, layer, *inner]:
            return f"middle_block.{2 * int(layer) + (kind == 'attentions')}.{unet_layer_key(kind, inner)}"
        case [side, block, kind, layer, *inner]:
            index = int(block) * stride + int(layer)
            blocks = f"input_blocks.{index + 1}" if side == "down_blocks" else f"output_blocks.{index}"
            return f"{blocks}.{int(kind == 'attentions')}.{unet_layer_key(kind, inner)}"


def unet_layer_key(kind: str, words: list[str]) -> str:
    if kind == "resnets":
        return rename(words, RESNET)
    return rename(words, ATTENTION | (LINEAR if words[0] == "time_pos_embed" else {}))


def vae_source(prefix: str, vae: AutoencoderKLTemporalDecoder, words: list[str], shape: tuple[int, ...]) -> Source:
    """The original code counts the decoder's blocks from the end, and its attention is made of 1 x 1 convolutions."""
    match words:
        case ["decoder", "time_conv_out", end]:
            return Source(f"{prefix}decoder.conv_out.time_mix_conv.{end}", shape)
        case [side, "conv_norm_out", end]:
            return Source(f"{prefix}{side}.norm_out.{end}", shape)
        case [side, "mid_block", "resnets", layer, *inner]:
            return Source(f"{prefix}{side}.mid.block_{int(layer) + 1}.{vae_resnet_key(inner)}", shape)
        case [side, "mid_block", "attentions", _, *inner]:
            key = f"{prefix}{side}.mid.attn_1.{rename(inner, VAE_ATTENTION)}"
            if len(shape) == 2:
                return Source(key, (*shape, 1, 1), lambda tensor: tensor.flatten(1))
            return Source(key, shape)
        case [side, ("down_blocks" | "up_blocks") as blocks, block, kind, layer, *inner]:
            place = block if blocks == "down_blocks" else len(vae.config.block_out_channels) - 1 - int(block)
            stem = f"{prefix}{side}.{blocks.removesuffix('_blocks')}.{place}"
            if kind == "resnets":
                return Source(f"{stem}.block.{layer}.{vae_resnet_key(inner)}", shape)
            return Source(f"{stem}.{kind.removesuffix('rs')}.{'.'.join(inner)}", shape)
    return Source(prefix + ".".join(words), shape)


def vae_resnet_key(words: list[str]) -> str:
    return rename(words, RESNET if words[0] == "temporal_res_block" else VAE_RESNET)


def vision_source(words: list[str], shape: tuple[int, ...]) -> Source:
    """OpenCLIP's names. It keeps query, key and value in one matrix, and the projection transposed."""
    match [word for word in words if word != "vision_model"]:
        case ["visual_projection", "weight"]:
            return Source(VISION + "proj", shape[::-1], lambda tensor: tensor.T.contiguous())
        case ["embeddings", "class_embedding"]:
            return Source(VISION + "class_embedding", shape)
        case ["embeddings", "patch_embedding", "weight"]:
            return Source(VISION + "conv1.weight", shape)
        case ["embeddings", "position_embedding", "weight"]:
            return Source(VISION + "positional_embedding", shape)
        case [("pre_layrnorm" | "post_layernorm") as norm, end]:
            return Source(f"{VISION}ln_{norm.split('_')[0]}.{end}", shape)
        case ["encoder", "layers", layer, "self_attn", ("q_proj" | "k_proj" | "v_proj") as part, end]:
            key = f"{VISION}transformer.resblocks.{layer}.attn.in_proj_{end}"
            third = "qkv".index(part[0])
            return Source(key, (3 * shape[0], *shape[1:]), lambda tensor: tensor.chunk(3)[third].clone())
        case ["encoder", "layers", layer, *inner]:
            return Source(f"{VISION}transformer.resblocks.{layer}.{rename(inner, VISION_LAYER)}", shape)


def rename(words: list[str], names: Mapping[str, str | None]) -> str:
    """The words joined, each under its other name if it has one; None leaves it out."""
    return ".".join(other for word in words if (other := names.get(word, word)) is not None)
