"""Runs in ComfyUI's Python: the networks of `original_svd` beside ComfyUI's own for Stable Video Diffusion.

python tests/comfyui_svd.py FOLDER_OF_COMFYUI: prints the relative difference of each network as JSON.
"""

from __future__ import annotations

import json
import sys

comfyui = sys.argv[1]
sys.argv[1:] = ["--cpu"]
sys.path.insert(0, comfyui)

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_detection  # noqa: E402
import comfy.ops  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencodingEngine  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402
from original_svd import SMALL_UNET, SMALL_VAE, networks, timestep_embedding  # noqa: E402

REGULARIZER = "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"
ENCODER, DECODER = "comfy.ldm.modules.diffusionmodules.model.Encoder", "comfy.ldm.modules.temporal_ae.VideoDecoder"
FRAMES = 3


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


@torch.no_grad()
def unet_difference(original) -> float:
    weights = original.state_dict()
    config = comfy.model_detection.detect_unet_config({f"x.{name}": each for name, each in weights.items()}, "x.")
    heads = {"num_heads": -1, "num_head_channels": SMALL_UNET["head"]}
    theirs = UNetModel(**config | heads, device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    theirs.load_state_dict(weights)
    sample, levels, context = torch.randn(2, FRAMES, 8, 8, 12), torch.tensor([0.3, -1.2]), torch.randn(2, 1, 24)
    ids = torch.tensor([[6.0, 127.0, 0.02], [7.0, 30.0, 0.5]])
    labels = timestep_embedding(ids.flatten(), SMALL_UNET["labels"] // 3).reshape(2, -1)
    predicted = theirs(
        sample.flatten(0, 1),
        levels.repeat_interleave(FRAMES),
        context=context.repeat_interleave(FRAMES, 0),
        y=labels.repeat_interleave(FRAMES, 0),
        num_video_frames=FRAMES,
        image_only_indicator=torch.zeros(2, FRAMES),
    )
    return relative(original(sample, levels, context, ids).flatten(0, 1), predicted)


@torch.no_grad()
def autoencoder_differences(original) -> dict[str, float]:
    encoder = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": SMALL_VAE["channels"],
        "ch_mult": list(SMALL_VAE["multiples"]),
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    theirs = AutoencodingEngine(
        regularizer_config={"target": REGULARIZER},
        encoder_config={"target": ENCODER, "params": encoder},
        decoder_config={"target": DECODER, "params": encoder | {"video_kernel_size": [3, 1, 1], "alpha": 0.0}},
    )
    theirs.load_state_dict(original.state_dict())
    latents, pixels = torch.randn(FRAMES, 4, 4, 6), torch.randn(2, 3, 16, 24)
    return {
        "decoder": relative(original.decoder(latents, FRAMES), theirs.decoder(latents)),
        "encoder": relative(original.encoder(pixels), theirs.encoder(pixels)),
    }


torch.manual_seed(0)
networks_here = networks()
print(json.dumps({"unet": unet_difference(networks_here.unet), **autoencoder_differences(networks_here.first_stage)}))
