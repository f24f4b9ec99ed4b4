"""The command `vocoder`: a bank of oscillators that learns whole sounds, saved as a SpeechT5HifiGan."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import SpeechT5HifiGan

from ...encoders.autoencoders import AudioAutoencoder, write_clock
from ...encoders.mel import log_mel
from .autoencoders import sound_pools
from .oscillator_bank import CLOCK, OscillatorBank, as_vocoder
from .recipe import TinyRecipe, VocoderStage
from .scenes import draw_integer
from .training_loop import fit

logger = logging.getLogger(__name__)
TIMBRE, TONE = 512, 2048  # samples of the windows that judge a sound's spectrum and its pitches


class VocoderObjective:
    """Whole sounds [N, samples], judged by their spectra: from true log-mels and, given an autoencoder, four times as
    often from its own."""

    @torch.no_grad()
    def __init__(
        self, settings: VocoderStage, sounds: Tensor, held_out: Tensor, vae: AutoencoderKL | None = None
    ) -> None:
        self.settings, self.sounds, self.held_out = settings, sounds, held_out
        mels = [log_mel(part) for part in sounds.split(64)]
        self.mels = torch.cat(mels)
        self.decoded = self.mels
        if vae is not None:
            codec = AudioAutoencoder(vae.eval())
            self.decoded = torch.cat([codec.decode_mel(codec.encode_mel(part)) for part in mels])
        self.model = OscillatorBank()

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        mels = self.mels if draw_integer(0, 4, generator) == 0 else self.decoded
        chosen = torch.randint(len(self.sounds), (self.settings.batch,), generator=generator)
        estimate, target = self.model(mels[chosen]), self.sounds[chosen]
        return timbre_distance(estimate, target) + 3 * pitch_distance(estimate, target)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        estimate = self.model(log_mel(self.held_out))
        judged = {"timbre": timbre_distance, "pitch": pitch_distance}
        return {name: distance(estimate, self.held_out).item() for name, distance in judged.items()}

    def vocoder(self) -> SpeechT5HifiGan:
        """What was learned, as loud as the sounds."""
        vocoder = as_vocoder(self.model)
        match_level(vocoder, self.decoded[:64], self.sounds[:64])
        return vocoder


def timbre_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute differences of log magnitudes, plus that of audible log-mels, in nepers."""
    both = torch.cat([estimate, target])
    window = torch.hann_window(TIMBRE)
    ours, theirs = torch.stft(both, TIMBRE, TIMBRE // 2, window=window, return_complex=True).abs().chunk(2)
    ours, theirs = (each.clamp(min=1e-3).log() for each in (ours, theirs))
    our_mel, their_mel = log_mel(both).clamp(min=-7).chunk(2)
    return 0.3 * F.l1_loss(ours, theirs) + F.l1_loss(our_mel, their_mel)


def pitch_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """1 minus the cosine similarity of power spectra, mean over the moments at which the target is loud; the more tonal
    they are, the more they weigh."""
    both = torch.cat([estimate, target])
    window = torch.hann_window(TONE)
    power = torch.stft(both, TONE, TONE // 4, window=window, return_complex=True).abs().square()
    ours, theirs = power.chunk(2)
    tonal = theirs.norm(dim=1) / (theirs.sum(1) + 1e-6)
    loud = theirs.sum(1) > 0.05 * theirs.sum(1).amax(1, keepdim=True)
    weight = tonal * loud
    return ((1 - F.cosine_similarity(ours, theirs, dim=1, eps=1e-6)) * weight).sum() / (weight.sum() + 1e-6)


@torch.no_grad()
def match_level(vocoder: SpeechT5HifiGan, mels: Tensor, sounds: Tensor) -> None:
    """Make a vocoder as loud as the sounds [B, N] on their log-mels [B, T, 64]: learned from logarithms, it
    is quieter."""
    for _ in range(2):  # once would do, but for the tanh at the end
        estimate = vocoder(write_clock(mels, CLOCK))
        vocoder.conv_post.weight *= sounds.norm() / estimate.norm()


def train_vocoder(recipe: TinyRecipe) -> None:
    """The command `vocoder`: `vocoder` in the runs, the state of its oscillators in `vocoder.run` beside it."""
    stage = recipe.vocoder
    torch.manual_seed(stage.seed)
    vae = AutoencoderKL.from_pretrained(stage.audio_vae) if stage.audio_vae else None
    objective = VocoderObjective(stage, *sound_pools(recipe, stage.seed, stage.scenes), vae)
    logger.info("start: %s", objective.evaluate())
    fit(objective, recipe.runs / "vocoder.run", stage)
    objective.vocoder().save_pretrained(recipe.runs / "vocoder")
    logger.info("vocoder saved: %s", objective.evaluate())
