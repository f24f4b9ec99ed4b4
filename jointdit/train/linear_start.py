"""Start an autoencoder at the best linear one, the principal components of its patches.

The networks are residual, but their group norms would forget a picture's brightness and their activations bend it. So
every group of four trunk channels carries (v, -v, K, -K): the constants keep the norm's deviation nearly fixed, and
silu(v) - silu(-v) = v. With residual branches that start at zero the whole network is then linear, and training only
has to improve on it.
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from torch import Tensor, nn

CONSTANT = 16.0


def principal_components(patches: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [D], deviations [count] and orthonormal directions [count, D] of `patches` [N, D], largest first."""
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T.double()))
    values, vectors = values.flip(0)[:count], vectors.flip(1).T[:count]
    return mean, values.sqrt().float(), vectors.float()


@torch.no_grad()
def start_linear(
    model: AutoencoderKL | AutoencoderKLTemporalDecoder, patches: Tensor, noise: float, penalty: float
) -> None:
    """Set the weights of a model of one level, whose group norms have four channels a group.

    Args:
        patches: [N, in_channels], folded pixels.
        noise: deviation of the noise that latents will carry in training; the posterior's constant deviation.
        penalty: weight of the latents' mean square in the loss, beside the mean squared error. Each latent's scale
            starts where the costs of noise and penalty balance.
    """
    config = model.config
    encoder, decoder = model.encoder, model.decoder
    norm = encoder.conv_norm_out
    if len(config.block_out_channels) != 1 or norm.num_channels != 4 * norm.num_groups:
        raise ValueError(f"block_out_channels is {config.block_out_channels}; give one level, 4 channels a norm group")
    (width,) = config.block_out_channels
    latents = config.latent_channels
    mean, deviation, directions = principal_components(patches, min(width // 4, config.in_channels))
    balance = noise / math.sqrt(config.in_channels / latents * penalty)
    spread = (deviation[:latents] * balance).sqrt()  # the deviation of each latent
    value = torch.arange(0, 4 * len(directions), 4)  # v; -v follows, then the two constants
    first, one = value[:latents], torch.arange(latents)

    for name, module in model.named_modules():
        if isinstance(module, nn.GroupNorm) and module.num_channels == width:
            module.weight[value] = module.weight[value + 1] = CONSTANT / math.sqrt(2)
        if name.endswith(("conv2", "to_out.0")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    for conv in (encoder.conv_in, encoder.conv_out, model.quant_conv, decoder.conv_in, decoder.conv_out):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    for conv in (encoder.conv_in, decoder.conv_in):
        conv.bias[2::4], conv.bias[3::4] = CONSTANT, -CONSTANT

    into = directions / deviation[:, None]
    encoder.conv_in.weight[value, :, 1, 1] = into
    encoder.conv_in.weight[value + 1, :, 1, 1] = -into
    encoder.conv_in.bias[value], encoder.conv_in.bias[value + 1] = -into @ mean, into @ mean
    encoder.conv_out.weight[one, first, 1, 1] = spread
    encoder.conv_out.weight[one, first + 1, 1, 1] = -spread
    model.quant_conv.weight[one, one, 0, 0] = 1.0
    model.quant_conv.bias[latents:] = 2 * math.log(noise)

    decoder.conv_in.weight[first, one, 1, 1] = 1 / spread
    decoder.conv_in.weight[first + 1, one, 1, 1] = -1 / spread
    out = (directions * deviation[:, None])[:latents].T
    decoder.conv_out.weight[:, first, 1, 1] = out
    decoder.conv_out.weight[:, first + 1, 1, 1] = -out
    decoder.conv_out.bias.copy_(mean)
    if isinstance(model, AutoencoderKL):
        nn.init.dirac_(model.post_quant_conv.weight)
        nn.init.zeros_(model.post_quant_conv.bias)
    else:
        nn.init.dirac_(decoder.time_conv_out.weight)
        nn.init.zeros_(decoder.time_conv_out.bias)
