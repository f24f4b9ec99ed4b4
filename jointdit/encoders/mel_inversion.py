"""From a log-mel to a sound that has it, beginning with what a vocoder makes of it.

A convolutional vocoder chooses the phases of a tone anew every few frames, so tones flutter and miss their pitch.
Griffin and Lim (1984) find phases that agree with each other by turning magnitudes into a sound, and its spectrum back
into magnitudes, until they stay. `match_log_mel` does so in the faster form of Perraudin et al. (2013), and asks for
the bands of a log-mel instead of magnitudes: in each round, every frequency gets the gain that its bands lack.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .mel import EDGE, FLOOR, HOP, WINDOW, mel_filters, spectrum

MOMENTUM = 0.99  # how far a round goes on beyond its own step, as a share of it
BEGINNING = 512  # samples, of the known part of a sound, in which the rest begins
FAINT = 0.01  # what the noise is before it becomes as loud as asked
MOST_GAIN = 100.0  # of a frequency in one round; the least is its inverse


@torch.no_grad()
def match_log_mel(waveform: Tensor, mel: Tensor, rounds: int, known: Tensor | None = None) -> Tensor:
    """A sound near `waveform` [B, 160 T] whose log-mel is close to `mel` [B, T, 64], float32.

    It begins with as much noise as sound, the same for every call, because what is periodic already would stay so.
    rounds: two Fourier transforms of every frame each; 0 leaves the sound as it is, whatever is known.
    known: its beginning [B, n], which stays, but for the last 32 ms, in which the rest begins.
    """
    if not rounds:
        return waveform
    asked, bank = mel.float().exp(), mel_filters().to(waveform.device)
    share = bank / bank.sum(1, keepdim=True).clamp(min=1e-9)  # of a band in the gain of a frequency
    window = torch.hann_window(WINDOW, device=waveform.device)[:, None]
    overlap = overlap_add((window**2).expand(1, -1, mel.shape[1])).clamp(min=1e-3)

    def as_asked(estimate: Tensor) -> Tensor:
        """The sound of a spectrum [B, 513, T], after its gains."""
        gain = asked / (estimate.abs().transpose(1, 2) @ bank + FLOOR)
        gain = gain.clamp(1 / MOST_GAIN, MOST_GAIN) @ share.T
        frames = torch.fft.irfft(estimate * gain.transpose(1, 2), dim=1) * window
        return (overlap_add(frames) / overlap)[:, EDGE:-EDGE]

    beginning = waveform[:, :0] if known is None else known
    left = torch.arange(beginning.shape[1], 0, -1, device=waveform.device) / BEGINNING
    stays = (torch.pi / 2 * left.clamp(max=1)).sin().square()

    def held(sound: Tensor) -> Tensor:
        """Its beginning as it is known."""
        sound[:, : beginning.shape[1]].lerp_(beginning, stays)
        return sound

    noise = FAINT * torch.randn(1, waveform.shape[1], generator=torch.Generator().manual_seed(0))
    sound, before = held(waveform.float() + as_asked(spectrum(noise.to(waveform.device)))), None
    for _ in range(rounds):
        found = spectrum(sound)
        ahead = found if before is None else found + MOMENTUM * (found - before)
        sound, before = held(as_asked(ahead)), found
    return sound


def overlap_add(frames: Tensor) -> Tensor:
    """[B, 1024, T], 160 samples apart -> [B, 160 (T - 1) + 1024]."""
    samples = HOP * (frames.shape[-1] - 1) + WINDOW
    return F.fold(frames, (1, samples), (1, WINDOW), stride=(1, HOP))[:, 0, 0]
