"""Start a vocoder as a bank of oscillators: each mel band drives the multiples of the frame rate that lie in it.

All stages but the last run at the mel's own rate. The first one turns log-mels into amplitudes (hinges that add up to
an exponential), the last one lays windowed oscillations over each other, and the residual blocks between start at zero.
What comes out has the right spectrum at the right time, but is periodic from frame to frame: training breaks that up.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import SpeechT5HifiGan

from ..mel import BINS, HOP, SAMPLE_RATE, WINDOW, mel_filters

KNOTS = (-12.0, -9.0, -7.2, -5.3, -3.5, -1.8, -0.2, 1.1)  # the first is below silence: a straight line
SPACING = SAMPLE_RATE / HOP


def exponential_hinges(slope: float) -> tuple[Tensor, float]:
    """Weights [K] and bias such that sum_k w_k leaky_relu(m - KNOTS_k) + bias is close to exp(m), -11.5 < m < 2.2."""
    levels = np.linspace(-11.5, 2.2, 400)[:, None]
    offsets = levels - np.array(KNOTS)
    design = np.concatenate([np.where(offsets > 0, offsets, slope * offsets), np.ones_like(levels)], 1)
    weight = 1 / (np.exp(levels) + 1e-5)
    solution = np.linalg.lstsq(design * weight, np.exp(levels)[:, 0] * weight[:, 0], rcond=None)[0]
    return torch.from_numpy(solution[:-1]).float(), float(solution[-1])


def oscillator_gains() -> NDArray[np.float64]:
    """Gains [oscillators, bands]: amplitudes of the multiples of 100 Hz whose log-mels come closest to those given."""
    count = int(SAMPLE_RATE / 2 / SPACING) - 1
    frequencies = SPACING * np.arange(1, count + 1)
    time = np.arange(WINDOW) / SAMPLE_RATE
    tones = np.hanning(WINDOW + 1)[:-1] * np.cos(2 * np.pi * frequencies[:, None] * time)
    response = mel_filters().double().numpy().T @ np.abs(np.fft.rfft(tones)).T  # [bands, oscillators]
    response += 1e-6 * response.max()
    gains = np.ones((count, 1))
    for _ in range(200):  # multiplicative updates: equal bands stay equal
        heard = response @ (gains * response.T).sum(1, keepdims=True)
        gains *= (response.T @ (1 / heard)) / response.sum(0)[:, None]
    return gains * response.T


@torch.no_grad()
def start_as_filter_bank(vocoder: SpeechT5HifiGan) -> None:
    """Set the weights of a vocoder with upsample rates 1, ..., 1, 160 and `upsample_initial_channel` 8 x 64 or more."""
    config = vocoder.config
    *before, last = config.upsample_rates
    if set(before) != {1} or last != HOP or config.upsample_initial_channel < len(KNOTS) * BINS:
        given = f"upsample rates {config.upsample_rates} from {config.upsample_initial_channel} channels"
        raise ValueError(f"{given}; the start needs 1, ..., 1, {HOP} from {len(KNOTS) * BINS} or more")
    slope = config.leaky_relu_slope
    for name, module in vocoder.named_modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            inputs = module.in_channels * module.kernel_size[0] / module.stride[0]
            nn.init.normal_(module.weight, std=0.0 if "convs2" in name else 0.5 / math.sqrt(inputs))
            nn.init.zeros_(module.bias)

    band = torch.arange(BINS)
    weights, bias = exponential_hinges(slope)
    vocoder.conv_pre.weight.zero_()
    for index, knot in enumerate(KNOTS):
        vocoder.conv_pre.weight[index * BINS + band, band, 3] = 1.0
        vocoder.conv_pre.bias[index * BINS : (index + 1) * BINS] = -knot
    for stage, conv in enumerate(vocoder.upsampler[:-1]):
        middle = conv.kernel_size[0] // 2
        conv.weight[:, :BINS] = 0
        if stage == 0:
            for index, weight in enumerate(weights):
                conv.weight[index * BINS + band, band, middle] = weight
            conv.bias[:BINS] = bias
        else:
            conv.weight[band, band, middle] = 1.0

    synthesis = vocoder.upsampler[-1]
    length, pairs = synthesis.kernel_size[0], synthesis.out_channels // 2
    gains = torch.from_numpy(oscillator_gains()).float()
    order = torch.arange(1, len(gains) + 1)[:, None]
    time = (torch.arange(length) - length / 2) / SAMPLE_RATE
    waves = torch.cos(2 * torch.pi * SPACING * order * time + torch.pi * order**2 / len(gains))  # spread phases
    window = torch.hann_window(length) * 2 * HOP / length
    synthesis.weight.zero_()
    synthesis.weight[band, 2 * (band % pairs)] = (gains.T @ waves) * window
    synthesis.weight[band, 2 * (band % pairs) + 1] = -(gains.T @ waves) * window
    vocoder.conv_post.weight.zero_()
    vocoder.conv_post.weight[0, 0::2, 3], vocoder.conv_post.weight[0, 1::2, 3] = 1 / 1.01, -1 / 1.01
