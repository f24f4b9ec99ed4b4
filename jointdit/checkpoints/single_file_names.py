"""The names that tensors of Stable Video Diffusion have in its original code, by their names in diffusers' classes."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from ..errors import InputError

UNET = "model.diffusion_model."
VAE = "first_stage_model."
VISION = "conditioner.embedders.0.open_clip.model.visual."
# The autoencoder that encodes the picture. It has the `quant_conv` that `first_stage_model` lacks.
PICTURE_VAE = "conditioner.embedders.3.encoder."

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


Models = UNetSpatioTemporalConditionModel | AutoencoderKLTemporalDecoder | CLIPVisionModelWithProjection


@dataclass(frozen=True)
class Source:
    """Where a tensor is in the file: under `key`, in this shape; `take` makes it the component's."""

    key: str
    shape: tuple[int, ...]
    take: Callable[[Tensor], Tensor] = lambda tensor: tensor


def component_sources(model: Models, keys: Container[str]) -> dict[str, Source]:
    """The source of every tensor of a component in a file that has `keys`, by the tensor's own name.

    Raises InputError for a tensor that the original code does not have: installed libraries may be newer than this map.
    """
    encoder = PICTURE_VAE if f"{PICTURE_VAE}encoder.conv_in.weight" in keys else VAE
    sources: dict[str, Source] = {}
    for ours, tensor in model.state_dict().items():
        shape, words = tuple(tensor.shape), ours.split(".")
        if isinstance(model, UNetSpatioTemporalConditionModel):
            sources[ours] = Source(UNET + unet_key(model, words), shape)
        elif isinstance(model, CLIPVisionModelWithProjection):
            sources[ours] = vision_source(words, shape)
        elif words[0] != "quant_conv" or encoder == PICTURE_VAE or f"{VAE}quant_conv.weight" in keys:
            sources[ours] = vae_source(VAE if words[0] == "decoder" else encoder, model, words, shape)
    return sources


def unknown(component: str, words: list[str]) -> InputError:
    """The error over a tensor that has no original name."""
    return InputError(
        f"{component} has {'.'.join(words)}, which single files of Stable Video Diffusion do not have; give the video "
        "expert as a folder in diffusers' layout"
    )


def unet_key(unet: UNetSpatioTemporalConditionModel, words: list[str]) -> str:
    """The original name of a tensor of the UNet, whose blocks are counted through from 0 there."""
    stride = unet.config["layers_per_block"] + 1
    match words:
        case ["time_embedding", ("linear_1" | "linear_2") as linear, end]:
            return f"time_embed.{LINEAR[linear]}.{end}"
        case ["add_embedding", ("linear_1" | "linear_2") as linear, end]:
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
        case ["mid_block", ("resnets" | "attentions") as kind, layer, *inner]:
            return f"middle_block.{2 * int(layer) + (kind == 'attentions')}.{unet_layer_key(kind, inner)}"
        case [("down_blocks" | "up_blocks") as side, block, ("resnets" | "attentions") as kind, layer, *inner]:
            index = int(block) * stride + int(layer)
            blocks = f"input_blocks.{index + 1}" if side == "down_blocks" else f"output_blocks.{index}"
            return f"{blocks}.{int(kind == 'attentions')}.{unet_layer_key(kind, inner)}"
    raise unknown("video_unet", words)


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
            place = block if blocks == "down_blocks" else len(vae.config["block_out_channels"]) - 1 - int(block)
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
    raise unknown("image_encoder", words)


def rename(words: list[str], names: Mapping[str, str | None]) -> str:
    """The words joined, each under its other name if it has one; None leaves it out."""
    return ".".join(other for word in words if (other := names.get(word, word)) is not None)
