"""Pixels and waveforms to latents and back, over diffusers' autoencoders of both experts.

Every factor (pixels per latent, mel frames per latent, scaling) is read from the components' configs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt, prod

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from einops import rearrange
from torch import Tensor, nn
from transformers import SpeechT5HifiGan

from ..errors import InputError
from ..latents import LatentLayout
from .mel import HOP, SAMPLE_RATE, log_mel
from .mel_inversion import match_log_mel

FADE_SECONDS = 0.004


def to_model_range(picture: Tensor) -> Tensor:
    """Pixels of any shape, uint8 0..255 -> float32 -1..1, as the autoencoders and the image encoder take them."""
    return picture.float() / 127.5 - 1


def from_model_range(pixels: Tensor) -> Tensor:
    """The reverse of `to_model_range`, rounded; what lies outside -1..1 is cut off."""
    return (pixels / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)


@contextmanager
def _upcast(vae: AutoencoderKLTemporalDecoder) -> Iterator[None]:
    """Run in float32 where the config asks for it (Stable Video Diffusion's encoder overflows in half precision)."""
    dtype = vae.dtype
    upcast = dtype == torch.float16 and vae.config["force_upcast"]
    if upcast:
        nn.Module.to(vae, torch.float32)
    try:
        yield
    finally:
        if upcast:
            nn.Module.to(vae, dtype)


def pack_latents(latents: Tensor, pack: int) -> Tensor:
    """[..., C, h, w] -> [..., C pack^2, h / pack, w / pack]."""
    return rearrange(latents, "... c (h p) (w q) -> ... (c p q) h w", p=pack, q=pack)


def unpack_latents(latents: Tensor, pack: int) -> Tensor:
    """The reverse of `pack_latents`."""
    return rearrange(latents, "... (c p q) h w -> ... c (h p) (w q)", p=pack, q=pack)


@dataclass(frozen=True)
class VideoAutoencoder:
    """Stable Video Diffusion's temporal autoencoder. Pixels are in -1..1.

    A model whose `in_channels` is 3 p^2 sees pixels folded p x p into channels (p = 1 is Stable Video Diffusion).
    pack: latents a side that are folded into the channels of one position of the UNet (1 is Stable Video Diffusion).
    Latents of C channels below are packed: C is pack^2 times those of the autoencoder.
    """

    vae: AutoencoderKLTemporalDecoder
    pack: int = 1

    @classmethod
    def of(cls, vae: AutoencoderKLTemporalDecoder, unet: UNetSpatioTemporalConditionModel) -> VideoAutoencoder:
        """With the packing that the channels of `unet` imply."""
        ours, theirs = vae.config["latent_channels"], unet.config["out_channels"]
        pack = isqrt(theirs // ours)
        if ours * pack**2 != theirs or theirs == 0:
            raise InputError(f"the UNet has {theirs} latent channels; give {ours} (the autoencoder's) times a square")
        return cls(vae, pack)

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return self.vae.config["latent_channels"] * self.pack**2

    @property
    def patch(self) -> int:
        return isqrt(self.vae.config["in_channels"] // 3)

    @property
    def factor(self) -> int:
        """Pixels of a side per latent."""
        return self.pack * self.patch * 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    def fold(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 3 p^2, H / p, W / p]."""
        return rearrange(pixels, "n c (h p) (w q) -> n (c p q) h w", p=self.patch, q=self.patch)

    def unfold(self, folded: Tensor) -> Tensor:
        """[N, 3 p^2, H / p, W / p] -> [N, 3, H, W]."""
        return rearrange(folded, "n (c p q) h w -> n c (h p) (w q)", p=self.patch, q=self.patch)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> the posterior's mode [B, C, h, w], not scaled, as Stable Video Diffusion's condition is."""
        if pixels.ndim != 4 or pixels.shape[-1] % self.factor or pixels.shape[-2] % self.factor:
            wanted = f"[batch, 3, H, W] with sides that are multiples of {self.factor}"
            raise ValueError(f"pixels have shape {tuple(pixels.shape)}; give {wanted}")
        with _upcast(self.vae):
            latents = self.vae.encode(self.fold(pixels.to(self.vae.dtype)))[0].mode()
        return pack_latents(latents.to(pixels.dtype), self.pack)

    def encode_video(self, frames: Tensor, chunk_size: int = 8) -> Tensor:
        """[B, F, 3, H, W] -> scaled latents [B, F, C, h, w]. The encoder sees single frames: chunks change nothing."""
        chunks = frames.flatten(0, 1).split(chunk_size)
        latents = torch.cat([self.encode_image(chunk) for chunk in chunks])
        return rearrange(latents, "(b f) c h w -> b f c h w", b=len(frames)) * self.vae.config["scaling_factor"]

    def decode_frames(self, latents: Tensor, chunk_size: int = 8, overlap: int = 0) -> Iterator[Tensor]:
        """Decode one clip chunk by chunk; memory does not grow with the number of frames.

        The decoder's norms and temporal convolutions see a chunk at a time, so a frame depends a little on its chunk.
        `overlap` frames are decoded in both of two neighbours and cross-faded, which hides the seam.
        Without overlap this equals `StableVideoDiffusionPipeline.decode_latents` with the same chunk size.

        latents: [F, C, h, w], scaled.
        Yields pixels [f, 3, H, W] in -1..1 (not clamped), the frames in order, each once.
        """
        if not 0 <= overlap < chunk_size:
            raise ValueError(f"overlap is {overlap}; it must be at least 0 and less than the chunk size, {chunk_size}")
        # One memory format for all: a convolution rounds differently in another one.
        latents = unpack_latents(latents.to(self.vae.dtype), self.pack).contiguous() / self.vae.config["scaling_factor"]
        tail = None
        start = 0
        while True:
            chunk = latents[start : start + chunk_size]
            last = start + chunk_size >= len(latents)
            pixels = self.unfold(self.vae.decode(chunk, num_frames=len(chunk))[0]).float()
            if tail is not None:
                weight = torch.linspace(0, 1, overlap + 2, device=pixels.device)[1:-1, None, None, None]
                pixels = torch.cat([torch.lerp(tail, pixels[:overlap], weight), pixels[overlap:]])
            if last:
                yield pixels
                return
            if overlap:
                pixels, tail = pixels[:-overlap], pixels[-overlap:]
            yield pixels
            start += chunk_size - overlap

    def decode_video(
        self,
        latents: Tensor,
        chunk_size: int = 8,
        overlap: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Scaled latents [B, F, C, h, w] -> uint8 pixels [B, F, H, W, 3] on the CPU.

        progress: called with (frames done, frames in all) after each chunk.
        """
        batch, frames, _, height, width = latents.shape
        out = torch.empty(batch, frames, height * self.factor, width * self.factor, 3, dtype=torch.uint8)
        for index, clip in enumerate(latents):
            done = 0
            for pixels in self.decode_frames(clip, chunk_size, overlap):
                out[index, done : done + len(pixels)] = rearrange(from_model_range(pixels), "f c h w -> f h w c").cpu()
                done += len(pixels)
                if progress is not None:
                    progress(index * frames + done, batch * frames)
        return out


@dataclass(frozen=True)
class AudioAutoencoder:
    """AudioLDM2's mel autoencoder and its HiFi-GAN vocoder. Waveforms are [B, samples], 16 kHz, -1..1.

    A model whose `in_channels` is p^2 sees the log-mel folded p x p into channels (p = 1 is AudioLDM2).
    A vocoder whose config has a `clock`, a list of levels, gets it in the top band, and one with `phase_rounds` is
    followed by so many rounds of `match_log_mel` (AudioLDM2's has neither).
    """

    vae: AutoencoderKL
    vocoder: SpeechT5HifiGan | None = None  # not needed for log-mels

    @property
    def needed_vocoder(self) -> SpeechT5HifiGan:
        """The vocoder. Raises ValueError if there is none."""
        if self.vocoder is None:
            raise ValueError("this AudioAutoencoder has no vocoder, so it knows log-mels only; make it with one")
        return self.vocoder

    @property
    def patch(self) -> int:
        return isqrt(self.vae.config["in_channels"])

    @property
    def factor(self) -> int:
        """Mel frames (10 ms each) per latent along time, and mel bins per latent."""
        return self.patch * 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    def fold(self, mel: Tensor) -> Tensor:
        """[B, T, M] -> [B, p^2, T / p, M / p]."""
        return rearrange(mel, "b (t p) (m q) -> b (p q) t m", p=self.patch, q=self.patch)

    def unfold(self, folded: Tensor) -> Tensor:
        """[B, p^2, T / p, M / p] -> [B, T, M]."""
        return rearrange(folded, "b (p q) t m -> b (t p) (m q)", p=self.patch, q=self.patch)

    def encode_mel(self, mel: Tensor) -> Tensor:
        """Log-mel [B, T, 64] with T a multiple of the factor -> scaled latents [B, C, T / factor, 64 / factor]."""
        latents = self.vae.encode(self.fold(mel).to(self.vae.dtype))[0].mode()
        return latents.to(mel.dtype) * self.vae.config["scaling_factor"]

    def encode_audio(self, waveform: Tensor) -> Tensor:
        """[B, samples] -> scaled latents [B, C, l, m] (the mode); silence fills the last latent up."""
        block = HOP * self.factor
        return self.encode_mel(log_mel(F.pad(waveform, (0, -waveform.shape[-1] % block))))

    def decode_mel(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, C, l, m] -> log-mel [B, T, 64]."""
        scaled = latents.to(self.vae.dtype) / self.vae.config["scaling_factor"]
        return self.unfold(self.vae.decode(scaled)[0])

    def decode_audio(self, latents: Tensor, samples: int) -> Tensor:
        """Scaled latents [B, C, l, m] -> float32 waveform [B, samples], cut or filled up with silence."""
        return fit_length(self.vocode(self.decode_mel(latents)), samples)

    def vocode(self, mel: Tensor, known: Tensor | None = None) -> Tensor:
        """Log-mel [B, T, 64] -> float32 waveform [B, T HOP]. known: its beginning [B, n], where there is one."""
        vocoder = self.needed_vocoder
        clocked = write_clock(mel, self.clock).to(vocoder.dtype)
        # The published vocoder returns 32 samples more than its mel lasts, at the end.
        waveform = vocoder(clocked).reshape(len(mel), -1)[:, : mel.shape[1] * HOP].float()
        return match_log_mel(waveform, mel, getattr(vocoder.config, "phase_rounds", 0), known)

    @property
    def clock(self) -> Sequence[float]:
        """The vocoder's, without which it is empty."""
        return getattr(self.needed_vocoder.config, "clock", ())


def layout_of(video: VideoAutoencoder, audio: AudioAutoencoder) -> LatentLayout:
    """How these two turn pixels and samples into latents."""
    vocoder = audio.needed_vocoder.config
    return LatentLayout(
        video_channels=video.channels,
        video_factor=video.factor,
        audio_channels=audio.vae.config["latent_channels"],
        mel_factor=audio.factor,
        mel_bins=vocoder.model_in_dim,
        hop=prod(vocoder.upsample_rates),
        sample_rate=vocoder.sampling_rate,
    )


def write_clock(mel: Tensor, levels: Sequence[float]) -> Tensor:
    """Log-mel [B, T, M] whose top band takes the `levels` in turn, frame by frame; no levels leave it as it is.

    A convolutional vocoder without a clock can make no sound whose period is longer than a frame.
    """
    if not levels:
        return mel
    clock = mel.new_tensor(levels).repeat(-(-mel.shape[1] // len(levels)))[: mel.shape[1]]
    return torch.cat([mel[..., :-1], clock.expand(len(mel), -1)[..., None]], -1)


def fit_length(waveform: Tensor, samples: int) -> Tensor:
    """Cut [B, n] to `samples`, or fill up with silence; both ends of the sound are faded over 4 ms."""
    waveform = fade(waveform[:, :samples])
    return F.pad(waveform, (0, samples - waveform.shape[-1]))


def fade(waveform: Tensor, start: bool = True, end: bool = True) -> Tensor:
    """A sound [B, n] whose ends, or one of them, rise and fall within 4 ms."""
    length = min(round(FADE_SECONDS * SAMPLE_RATE), waveform.shape[-1] // 2)
    ramp = torch.sin(torch.linspace(0, torch.pi / 2, length, device=waveform.device)) ** 2
    weight = torch.ones(waveform.shape[-1], device=waveform.device)
    if start:
        weight[:length] = ramp
    if end:
        weight[len(weight) - length :] = ramp.flip(0)
    return waveform * weight
