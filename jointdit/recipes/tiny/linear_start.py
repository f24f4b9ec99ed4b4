"""Start a network at a linear one: autoencoders at the principal components of their patches, UNets at the best mixture
of their inputs.

The networks are residual, but their group norms would forget a picture's brightness and their activations bend it. So a
group of four trunk channels carries constants beside the signals, which keep the norm's deviation nearly fixed: in the
autoencoders (v, -v, K, -K), where silu(v) - silu(-v) = v, and before the end of the UNets (v, w, K, -K), where silu
is nearly straight. With residual branches that start small the whole network is then linear, and training only has to
improve on it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import (
    AudioLDM2UNet2DConditionModel,
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    UNetSpatioTemporalConditionModel,
)
from torch import Tensor, nn

CONSTANT = 16.0
UNET_CONSTANT = 8.0
SILU_OFFSET, SIGNAL = 1.0, 0.25  # silu is nearly straight there; large values would amplify the steps of training
RESIDUAL = 0.2  # what is left of the last residual branch's random weights


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

    patches: [N, in_channels], folded pixels.
    noise: deviation of the noise that latents will carry in training; the posterior's constant deviation.
    penalty: weight of the latents' mean square in the loss, beside the mean squared error. Each latent's scale starts
    where the costs of noise and penalty balance.
    """
    config = model.config
    levels, latents, inputs = config["block_out_channels"], config["latent_channels"], config["in_channels"]
    vae: Any = model  # the annotations of diffusers allow for layers that are not there
    encoder, decoder = vae.encoder, vae.decoder
    norm = encoder.conv_norm_out
    if len(levels) != 1 or norm.num_channels != 4 * norm.num_groups:
        raise ValueError(f"block_out_channels is {levels}; give one level, 4 channels a norm group")
    (width,) = levels
    mean, deviation, directions = principal_components(patches, min(width // 4, inputs))
    balance = noise / math.sqrt(inputs / latents * penalty)
    spread = (deviation[:latents] * balance).sqrt()  # the deviation of each latent
    value = torch.arange(0, 4 * len(directions), 4)  # v; -v follows, then the two constants
    first, one = value[:latents], torch.arange(latents)

    for name, module in vae.named_modules():
        if isinstance(module, nn.GroupNorm) and module.num_channels == width:
            module.weight[value] = module.weight[value + 1] = CONSTANT / math.sqrt(2)
        if name.endswith(("conv2", "to_out.0")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    for conv in (encoder.conv_in, encoder.conv_out, vae.quant_conv, decoder.conv_in, decoder.conv_out):
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
    vae.quant_conv.weight[one, one, 0, 0] = 1.0
    vae.quant_conv.bias[latents:] = 2 * math.log(noise)

    decoder.conv_in.weight[first, one, 1, 1] = 1 / spread
    decoder.conv_in.weight[first + 1, one, 1, 1] = -1 / spread
    out = (directions * deviation[:, None])[:latents].T
    decoder.conv_out.weight[:, first, 1, 1] = out
    decoder.conv_out.weight[:, first + 1, 1, 1] = -out
    decoder.conv_out.bias.copy_(mean)
    if isinstance(model, AutoencoderKL):
        nn.init.dirac_(vae.post_quant_conv.weight)
        nn.init.zeros_(vae.post_quant_conv.bias)
    else:
        nn.init.dirac_(decoder.time_conv_out.weight)
        nn.init.zeros_(decoder.time_conv_out.bias)


@torch.no_grad()
def start_as_mixture(unet: UNetSpatioTemporalConditionModel | AudioLDM2UNet2DConditionModel, mixture: Tensor) -> None:
    """Set the ends of a UNet so that it starts close to `mixture` [k, outputs]: output o is the sum over k of
    mixture[k, o] times input k outputs + o. Its norms must have four channels a group there.

    The inputs go through conv_in's skip connection to the last residual block, whose shortcut mixes them.
    """
    layers: Any = unet
    norm, first, last = layers.conv_norm_out, layers.conv_in, layers.conv_out
    kinds, outputs = mixture.shape
    in_group = -(-outputs // norm.num_groups)  # signals in a norm group
    if norm.num_channels != 4 * norm.num_groups or max(in_group, kinds) > 2 or first.in_channels != kinds * outputs:
        given = f"{norm.num_channels} channels in {norm.num_groups} groups, inputs {first.in_channels}"
        raise ValueError(
            f"{given}, mixture {tuple(mixture.shape)}; give four channels a group, 1 or 2 signals for each"
        )
    output = torch.arange(outputs)
    group, slot = output // in_group, 4 * (output // in_group) + output % in_group
    plus, minus = 4 * group.unique() + 2, 4 * group.unique() + 3

    middle = tuple(side // 2 for side in first.kernel_size)
    carried = [slot + 2 * kind for kind in range(kinds)]
    for kind, place in enumerate(carried):
        first.weight[place] = 0
        first.bias[place] = 0
        first.weight[(place, kind * outputs + output, *middle)] = 1.0

    block = layers.up_blocks[-1].resnets[-1]
    spatial = getattr(block, "spatial_res_block", block)
    for residual in (spatial, getattr(block, "temporal_res_block", None)):
        if residual is not None:
            residual.conv2.weight *= RESIDUAL
            nn.init.zeros_(residual.conv2.bias)
            residual.conv2.weight[torch.cat((plus, minus))] = 0
    shortcut = spatial.conv_shortcut
    deep = shortcut.in_channels - first.out_channels  # the skip connection follows after them
    rows = torch.cat((slot, plus, minus))
    shortcut.weight[rows, deep:] = 0
    shortcut.weight[rows, :deep] *= RESIDUAL
    shortcut.weight[torch.cat((plus, minus))] = 0
    shortcut.bias[rows] = 0
    shortcut.bias[plus], shortcut.bias[minus] = UNET_CONSTANT, -UNET_CONSTANT
    for kind, place in enumerate(carried):
        shortcut.weight[slot, deep + place, 0, 0] = mixture[kind]

    # The norm leaves SIGNAL v, less a quarter of the means of its group's signals, which the two constants carry.
    norm.weight[rows] = SIGNAL * UNET_CONSTANT / math.sqrt(2)
    norm.weight[torch.cat((plus, minus))] = SIGNAL
    norm.bias[rows] = SILU_OFFSET
    offset = torch.tensor(SILU_OFFSET, requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(nn.functional.silu(offset), offset)
    gain = 1 / (SIGNAL * slope)
    half = gain * UNET_CONSTANT / math.sqrt(2) / 2
    nn.init.zeros_(last.weight)
    for place, weight in ((slot, gain), (4 * group + 2, -half), (4 * group + 3, -half)):
        last.weight[(output, place, *middle)] = weight
    levels = nn.functional.silu(SILU_OFFSET + SIGNAL * torch.tensor([math.sqrt(2), -math.sqrt(2)]))
    last.bias.fill_(half * levels.sum() - gain * nn.functional.silu(offset).item())
