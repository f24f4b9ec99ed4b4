"""The log-mel spectrogram that AudioLDM2's autoencoder and vocoder are trained on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

SAMPLE_RATE = 16_000
HOP = 160
WINDOW = 1024
EDGE = (WINDOW - HOP) // 2  # samples on each side of a sound in which it is reflected
BINS = 64
TOP_HZ = 8_000.0
FLOOR = 1e-5
SILENCE = math.log(FLOOR)


def mel_filters() -> Tensor:
    """The Slaney filter bank, [513 frequencies, 64 mels], float32."""
    filters = mel_filter_bank(WINDOW // 2 + 1, BINS, 0.0, TOP_HZ, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(filters).float()


def log_mel(waveform: Tensor) -> Tensor:
    """AudioLDM2's log-mel [B, samples // 160, 64]: magnitude (not power), natural logarithm, not normalised.

    waveform: [B, samples], 16 kHz, -1..1; more than 432 samples, because the ends are reflected.
    Frame i is centred on sample 160 i + 80. Silence is ln(1e-5) = -11.513.
    Raises ValueError for another shape.
    """
    mel = spectrum(waveform).abs().transpose(1, 2) @ mel_filters().to(waveform.device)
    return mel.clamp(min=FLOOR).log()


def spectrum(waveform: Tensor) -> Tensor:
    """Of which `log_mel` has the magnitudes: complex [B, 513, samples // 160]. Raises ValueError as that does."""
    if waveform.ndim != 2 or waveform.shape[-1] <= EDGE:
        shape = tuple(waveform.shape)
        raise ValueError(f"waveform has shape {shape}; give [batch, samples] of more than {EDGE} samples")
    padded = F.pad(waveform.float(), (EDGE, EDGE), mode="reflect")
    window = torch.hann_window(WINDOW, device=waveform.device)
    return torch.stft(padded, WINDOW, HOP, window=window, center=False, return_complex=True)
