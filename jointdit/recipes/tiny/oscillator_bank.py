"""A vocoder that is a bank of oscillators, and the clock that keeps their phases.

A convolution cannot tell one mel frame from the next, so what it makes of a steady log-mel repeats every frame, every
10 ms: it has partials at multiples of 100 Hz only. `AudioAutoencoder` therefore writes a clock into the top band, which
is hardly used, where a vocoder's config asks for it. By that clock this one chooses among four waves for each of its
bands, whose oscillators lie at multiples of 25 Hz.

`OscillatorBank` is the part that is trained, from log-mels to the oscillators' amplitudes; `as_vocoder` makes a
`SpeechT5HifiGan` of it. That one's stages are: hinges of log-mels; amplitudes, all but those of the clock's moment
closed, with a residual block that sharpens them; coefficients of a lapped transform of their waves, at 500 Hz; the same
once more, since channels halve at every stage and the last is by far the largest; the waveform.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from ...encoders.mel import BINS, HOP, SAMPLE_RATE, WINDOW, mel_filters

# Below silence: a log-mel without a clock is at place 0 throughout, and a vocoder without one hears nothing there.
CLOCK = (-12.0, -13.0, -14.0, -15.0)
BANDS = BINS - 1  # below the clock's
UNITS = BANDS - 1  # one for each band, but the last has two
CHANNELS = 252  # of the amplitudes; the first stage has twice as many, and each one after it half
CONTEXT = 7  # frames that a unit hears, the width of a vocoder's first convolution
KNOTS = (-12.0, -9.0, -7.2, -5.3, -3.5, -1.8, -0.2, 1.1)  # the first is below silence: a straight line
STEP = SAMPLE_RATE / HOP / len(CLOCK)  # Hz between oscillators
CLOSED = 64.0  # more than any amplitude
SUBFRAME = 32  # samples that a coefficient of the lapped transform lasts
PHASE_ROUNDS = 60  # of `match_log_mel` after the vocoder: tones between oscillators would flutter
RAISED = 2  # coefficients, the highest, that share what keeps them positive; each of the others takes two channels


def exponential_hinges() -> tuple[Tensor, float]:
    """Weights [K] and bias such that sum_k w_k relu(m - KNOTS_k) + bias is close to exp(m), -11.5 < m < 2.2."""
    levels = np.linspace(-11.5, 2.2, 400)[:, None]
    design = np.concatenate([np.maximum(levels - np.array(KNOTS), 0), np.ones_like(levels)], 1)
    weight = 1 / (np.exp(levels) + 1e-5)
    solution = np.linalg.lstsq(design * weight, np.exp(levels)[:, 0] * weight[:, 0], rcond=None)[0]
    return torch.from_numpy(solution[:-1]).float(), float(solution[-1])


def oscillator_gains() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Oscillators that repeat with the clock, and a first guess of how the units drive them: frequencies [L], in units
    of 25 Hz, and gains [L, UNITS] such that the log-mels come close to those given."""
    order = np.arange(1, int(SAMPLE_RATE / 2 / STEP))
    time = np.arange(WINDOW) / SAMPLE_RATE
    tones = np.hanning(WINDOW + 1)[:-1] * np.exp(2j * np.pi * STEP * order[:, None] * time)
    response = mel_filters().double().numpy().T @ np.abs(np.fft.fft(tones)[:, : WINDOW // 2 + 1]).T / 2
    driven = response.T
    heard_by = response + 1e-6 * response.max()
    gains = np.ones((len(order), 1)) / driven.max()
    for _ in range(200):  # multiplicative updates: equal bands stay equal
        heard = heard_by @ (gains * driven).sum(1, keepdims=True)
        gains *= (heard_by.T @ (1 / heard)) / heard_by.sum(0)[:, None]
    gains = gains * np.where(driven > 1e-4 * driven.max(1, keepdims=True), driven, 0)  # of near bands alone
    gains = np.concatenate([gains[:, : UNITS - 1], gains[:, UNITS - 1 :].sum(1, keepdims=True)], 1)
    return order, gains


def oscillations(order: NDArray[np.int64]) -> Tensor:
    """Waves [4, L, 320] of the oscillators around a frame at each place of the clock, faded over the frames beside it.
    Their phases are random, so that they do not peak together."""
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, int(SAMPLE_RATE / 2 / STEP))[order - 1, None]
    time = (np.arange(-HOP, HOP) + HOP * np.arange(len(CLOCK))[:, None, None]) / SAMPLE_RATE
    angles = 2 * np.pi * STEP * order[:, None] * time + phases
    return torch.from_numpy(np.cos(angles) * np.hanning(2 * HOP + 1)[:-1]).float()


class OscillatorBank(nn.Module):
    """From log-mels to the amplitudes of units, exponentials of mixed log-mels, sharpened by a hidden layer; from these
    to the amplitudes of oscillators.

    It starts with one unit for each band and a hidden layer that adds nothing.
    """

    own: Tensor
    hinges: Tensor
    knots: Tensor
    scale: Tensor
    waves: Tensor

    def __init__(self) -> None:
        super().__init__()
        order, first_gains = oscillator_gains()
        gains = torch.from_numpy(first_gains).float()
        scale = gains.norm(dim=1, keepdim=True)
        own = torch.zeros(UNITS, BANDS, CONTEXT)
        own[range(UNITS), range(UNITS), CONTEXT // 2] = 1.0
        own[-1, -2:, CONTEXT // 2] = 0.5
        hinges, self.bias = exponential_hinges()
        constants = {
            "own": own,
            "hinges": hinges,
            "knots": torch.tensor(KNOTS),
            "scale": scale * (gains > 0),
            "waves": oscillations(order),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)
        self.mix = nn.Parameter(torch.zeros(UNITS, BANDS, CONTEXT))
        self.level = nn.Parameter(torch.zeros(UNITS))
        distance = torch.arange(UNITS) - torch.arange(CHANNELS)[:, None] % UNITS
        self.first = nn.Parameter(0.5 * torch.randn(CHANNELS, UNITS) * torch.exp(-distance.square() / 8))
        self.second = nn.Parameter(torch.zeros(UNITS, CHANNELS))
        self.gains = nn.Parameter(gains / scale)

    def mixture(self) -> tuple[Tensor, Tensor]:
        """Weights [UNITS, 63, 7] and biases [UNITS] of the mixed log-mels. What is learned counts from a middle level,
        -6."""
        return self.own + self.mix, self.level + 6 * self.mix.sum((1, 2))

    def oscillators(self) -> Tensor:
        """Gains [L, UNITS]."""
        return self.gains * self.scale

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel [B, T, 64], its first frame at place 0 of the clock -> waveform [B, 160 T]."""
        batch, frames, _ = mel.shape
        mixed = F.conv1d(mel[..., :BANDS].transpose(1, 2), *self.mixture(), padding=CONTEXT // 2).transpose(1, 2)
        loud = torch.relu(mixed[..., None] - self.knots) @ self.hinges + self.bias
        hidden = torch.relu(torch.relu(loud) @ self.first.T)
        amplitudes = torch.relu(loud + hidden @ self.second.T) @ self.oscillators().T
        rounds = F.pad(amplitudes, (0, 0, 0, -frames % len(CLOCK))).unflatten(1, (-1, len(CLOCK)))
        waves = torch.einsum("b r p l, p l s -> b s r p", rounds, self.waves).flatten(2)[..., :frames]
        laid = F.fold(waves, (1, (frames + 1) * HOP), (1, 2 * HOP), stride=(1, HOP))[:, 0, 0]
        return torch.tanh(laid[:, HOP // 2 : -HOP // 2])


def lapped_basis() -> Tensor:
    """Functions [32, 64] of the modified discrete cosine transform with a sine window (Princen et al. 1987)."""
    time, order = torch.arange(2 * SUBFRAME), torch.arange(SUBFRAME)[:, None]
    window = torch.sin(torch.pi * (time + 0.5) / (2 * SUBFRAME)) * math.sqrt(2 / SUBFRAME)
    return window * torch.cos(torch.pi / SUBFRAME * (time + 0.5 + SUBFRAME / 2) * (order + 0.5))


@torch.no_grad()
def as_vocoder(bank: OscillatorBank) -> SpeechT5HifiGan:
    """A vocoder that computes what the bank does, if the top band of its log-mels holds `CLOCK`."""
    rate = HOP // SUBFRAME
    config: dict[str, Any] = {
        "model_in_dim": BINS,
        "sampling_rate": SAMPLE_RATE,
        "upsample_initial_channel": 2 * CHANNELS,
        "upsample_rates": [1, rate, 1, SUBFRAME],
        "upsample_kernel_sizes": [1, 2 * rate + 1, 1, 2 * SUBFRAME],  # a wave of 320 samples lies in 11 subframes
        "resblock_kernel_sizes": [1],
        "resblock_dilation_sizes": [[1]],
        "leaky_relu_slope": 0.0,
        "normalize_before": False,
        "clock": list(CLOCK),
        "phase_rounds": PHASE_ROUNDS,
    }
    vocoder: Any = SpeechT5HifiGan(SpeechT5HifiGanConfig(**config)).eval()
    for parameter in vocoder.parameters():
        parameter.zero_()
    first, (amplitudes, waves, same, last) = vocoder.conv_pre, vocoder.upsampler
    weight, bias = bank.mixture()
    for index, knot in enumerate(KNOTS):
        rows = slice(index * UNITS, (index + 1) * UNITS)
        first.weight[rows, :BANDS], first.bias[rows] = weight, bias - knot
    ticks = torch.arange(len(CLOCK) - 1) + len(KNOTS) * UNITS  # channels that count the places after each but the last
    first.weight[ticks, -1, CONTEXT // 2] = -1.0
    first.bias[ticks] = torch.tensor(CLOCK[:-1])

    block, basis, channel, paired = vocoder.resblocks[0], lapped_basis(), 0, SUBFRAME - RAISED
    unit_waves = torch.einsum("l u, p l s -> u p s", bank.oscillators(), bank.waves)
    for unit in range(UNITS):
        for place in range(len(CLOCK)):
            shut = torch.tensor([0.0 if now == place else -CLOSED for now in range(len(CLOCK))])
            amplitudes.weight[torch.arange(len(KNOTS)) * UNITS + unit, channel, 0] = bank.hinges
            amplitudes.weight[ticks, channel, 0] = shut.diff().diff(prepend=torch.zeros(1))
            amplitudes.bias[channel] = bank.bias + shut[0]
            block.convs1[0].weight[:, channel, 0] = bank.first[:, unit]
            block.convs2[0].weight[channel, :, 0] = bank.second[unit]
            wave = F.pad(unit_waves[unit, place], (SUBFRAME, SUBFRAME)).unfold(0, 2 * SUBFRAME, SUBFRAME)
            coefficients = basis @ wave.T
            waves.weight[channel, :SUBFRAME] = coefficients
            waves.weight[channel, SUBFRAME : SUBFRAME + paired] = -coefficients[:paired]
            raised = coefficients[paired:].abs().amax(0)  # amplitudes are positive: at least as much as any of them
            waves.weight[channel, paired:SUBFRAME] += raised
            waves.weight[channel, SUBFRAME + paired] = raised
            channel += 1
    used = torch.arange(SUBFRAME + paired + 1)
    same.weight[used, used, 0] = 1.0
    # What is above zero, what is below or was raised, and the same at the end.
    functions = torch.cat([basis, -basis[:paired], -basis[paired:].sum(0, keepdim=True)])
    for half, sign in enumerate((1, -1)):
        last.weight[used, half] = sign * functions
        vocoder.conv_post.weight[0, half, 3] = sign / 1.01  # the last slope is 0.01
    return vocoder
