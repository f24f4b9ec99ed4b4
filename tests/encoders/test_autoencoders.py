"""Pixels and sound to latents and back: equal to diffusers, exact lengths, no seams, no clicks."""

import math
import weakref

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, StableVideoDiffusionPipeline
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from jointdit.encoders.autoencoders import (
    AudioAutoencoder,
    VideoAutoencoder,
    fit_length,
    from_model_range,
    layout_of,
    to_model_range,
    unpack_latents,
)
from jointdit.encoders.mel import HOP, log_mel

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def video_autoencoder(patch=1, levels=2):
    vae = AutoencoderKLTemporalDecoder(
        in_channels=3 * patch**2,
        out_channels=3 * patch**2,
        down_block_types=("DownEncoderBlock2D",) * levels,
        block_out_channels=(32,) * levels,
        layers_per_block=1,
        latent_channels=4,
        force_upcast=False,
    )
    for module in vae.modules():  # the plain start mixes frames by exactly one half
        if hasattr(module, "mix_factor"):
            torch.nn.init.normal_(module.mix_factor)
    return VideoAutoencoder(vae.eval())


def audio_autoencoder(rates=(5, 4, 4, 2), kernels=(11, 8, 8, 4)):
    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 16, 16),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
    )
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=64,
            upsample_initial_channel=32,
            upsample_rates=list(rates),
            upsample_kernel_sizes=list(kernels),
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
            normalize_before=False,
        )
    )
    return AudioAutoencoder(vae.eval(), vocoder.eval())


def as_pixels(floats):
    """[1, 3, F, H, W] in -1..1 as diffusers gives it -> uint8 [1, F, H, W, 3]."""
    return ((floats / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 4, 1)


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 14])
def test_decoding_equals_diffusers_with_the_same_chunk_size(chunk_size):
    codec = video_autoencoder()
    latents = torch.randn(1, 7, 4, 4, 6)
    pipeline = StableVideoDiffusionPipeline.decode_latents
    theirs = pipeline(type("Pipeline", (), {"vae": codec.vae}), latents, 7, chunk_size)
    ours = torch.cat(list(codec.decode_frames(latents[0], chunk_size)))
    torch.testing.assert_close(ours, theirs[0].transpose(0, 1), rtol=0, atol=1e-6)
    assert torch.equal(codec.decode_video(latents, chunk_size), as_pixels(theirs))


def test_each_clip_of_a_batch_is_decoded_alone():
    codec = video_autoencoder()
    latents = torch.randn(2, 5, 4, 4, 4)
    alone = torch.cat([codec.decode_video(clip[None], 3) for clip in latents])
    assert torch.equal(codec.decode_video(latents, 3), alone)


@pytest.mark.parametrize("frames", [1, 4, 5, 11])
@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_every_frame_comes_once_whatever_the_overlap(frames, overlap):
    codec = video_autoencoder()
    chunks = list(codec.decode_frames(torch.randn(frames, 4, 2, 2), chunk_size=4, overlap=overlap))
    assert sum(len(chunk) for chunk in chunks) == frames
    assert all(len(chunk) <= 4 for chunk in chunks)


def test_overlap_hides_the_seams():
    codec = video_autoencoder()
    latents = torch.randn(1, 4, 4, 4).repeat(16, 1, 1, 1) + 0.3 * torch.linspace(-1, 1, 16)[:, None, None, None]

    def largest_jump(overlap):
        frames = torch.cat(list(codec.decode_frames(latents, 6, overlap)))
        return frames.diff(dim=0).diff(dim=0).abs().mean((1, 2, 3)).max()

    assert largest_jump(4) < 0.8 * largest_jump(0)


def test_progress_counts_frames():
    seen = []
    latents = torch.randn(2, 5, 4, 2, 2)
    video_autoencoder().decode_video(latents, 2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 10), (4, 10), (5, 10), (7, 10), (9, 10), (10, 10)]


@pytest.mark.parametrize("overlap", [-1, 4, 5])
def test_a_wrong_overlap_is_named(overlap):
    with pytest.raises(ValueError, match=f"overlap is {overlap}"):
        video_autoencoder().decode_video(torch.randn(1, 5, 4, 2, 2), 4, overlap)


@pytest.mark.parametrize("patch, levels, factor", [(1, 4, 8), (1, 2, 2), (4, 2, 8), (8, 1, 8)])
def test_factors_come_from_the_config(patch, levels, factor):
    codec = video_autoencoder(patch, levels)
    frames = torch.rand(1, 3, 3, 2 * factor, 3 * factor) * 2 - 1
    latents = codec.encode_video(frames, chunk_size=2)
    assert (codec.patch, codec.factor, latents.shape) == (patch, factor, (1, 3, 4, 2, 3))
    assert codec.decode_video(latents).shape == (1, 3, 2 * factor, 3 * factor, 3)


def test_folding_and_unfolding_are_inverse():
    codec = video_autoencoder(patch=4)
    pixels = torch.rand(2, 3, 8, 12)
    assert torch.equal(codec.unfold(codec.fold(pixels)), pixels)


def test_image_latents_are_the_unscaled_mode_and_video_latents_the_scaled_one():
    codec = video_autoencoder()
    frames = torch.rand(2, 3, 3, 8, 8) * 2 - 1
    mode = codec.vae.encode(frames[:, 0]).latent_dist.mode()
    torch.testing.assert_close(codec.encode_image(frames[:, 0]), mode)
    torch.testing.assert_close(codec.encode_video(frames)[:, 0], mode * codec.vae.config.scaling_factor)


def test_half_precision_is_lifted_for_the_encoder_and_restored():
    codec = video_autoencoder()
    pixels = torch.rand(1, 3, 8, 8) * 2 - 1
    exact = codec.encode_image(pixels)
    codec.vae.to(torch.float16)
    codec.vae.register_to_config(force_upcast=True)
    torch.testing.assert_close(codec.encode_image(pixels), exact, rtol=0, atol=5e-3)
    assert codec.vae.dtype == torch.float16


def test_sides_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="multiples of 8"):
        video_autoencoder(4).encode_image(torch.zeros(1, 3, 12, 16))


@pytest.mark.parametrize("samples, length", [(25600, 40), (16000, 25), (16001, 26), (5000, 8)])
def test_audio_latents_cover_the_whole_sound(samples, length):
    assert audio_autoencoder().encode_audio(torch.randn(2, samples) * 0.1).shape == (2, 8, length, 16)


@pytest.mark.parametrize("kernels", [(11, 8, 8, 4), (12, 8, 8, 4)], ids=["exact", "longer than the mel"])
@pytest.mark.parametrize("samples", [6400, 6000, 7000])
def test_the_sound_has_the_asked_length_and_quiet_ends(kernels, samples):
    codec = audio_autoencoder(kernels=kernels)
    sound = codec.decode_audio(torch.randn(2, 8, 10, 16), samples)
    assert sound.shape == (2, samples) and sound.dtype == torch.float32
    assert sound[:, 0].abs().max() == 0 and sound[:, -1].abs().max() < 1e-6
    mel = codec.vae.decode(torch.randn(2, 8, 10, 16)).sample.squeeze(1)
    assert codec.vocoder(mel).shape[-1] >= mel.shape[1] * HOP


def test_without_a_vocoder_there_are_log_mels_but_no_sound():
    codec = AudioAutoencoder(audio_autoencoder().vae)
    latents = torch.randn(1, 8, 10, 16)
    assert codec.decode_mel(latents).shape == (1, 40, 64)
    with pytest.raises(ValueError, match="has no vocoder"):
        codec.decode_audio(latents, 6400)


def test_the_layout_of_two_autoencoders_needs_the_vocoders_rate():
    video, audio = video_autoencoder(patch=4), audio_autoencoder()
    layout = layout_of(video, audio)
    assert (layout.video_channels, layout.video_factor) == (video.channels, video.factor)
    assert (layout.audio_channels, layout.mel_factor, layout.mel_bins) == (8, audio.factor, 64)
    assert (layout.hop, layout.sample_rate, layout.audio_latents_per_second) == (HOP, 16000, 25)
    with pytest.raises(ValueError, match="has no vocoder"):
        layout_of(video, AudioAutoencoder(audio.vae))


def test_every_level_of_a_pixel_survives_the_model_range():
    levels = torch.arange(256, dtype=torch.uint8)
    pixels = to_model_range(levels)
    assert pixels.dtype == torch.float32 and (pixels[0], pixels[-1]) == (-1, 1)
    assert torch.equal(from_model_range(pixels), levels)
    assert from_model_range(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]


def test_the_vocoder_hears_the_autoencoders_mel():
    codec = audio_autoencoder()
    latents = torch.randn(1, 8, 10, 16)
    mel = codec.vae.decode(latents / codec.vae.config.scaling_factor).sample.squeeze(1)
    ours = codec.decode_audio(latents, 6400)
    torch.testing.assert_close(ours[:, 400:6000], codec.vocoder(mel)[:, 400:6000])


def test_mel_latents_are_the_scaled_mode():
    codec = audio_autoencoder()
    codec.vae.register_to_config(scaling_factor=0.5)
    sound = torch.randn(1, 6400) * 0.1
    mode = codec.vae.encode(log_mel(sound)[:, None]).latent_dist.mode()
    torch.testing.assert_close(codec.encode_audio(sound), mode * 0.5)


def test_fading_leaves_the_middle_alone_and_moves_nothing():
    tone = torch.sin(torch.arange(16000) * 2 * math.pi * 100 / 16000)[None] + 0.5
    cut = fit_length(tone, 8000)
    assert torch.equal(cut[:, 64:-64], tone[:, 64:7936])
    filled = fit_length(tone, 20000)
    assert torch.equal(filled[:, 64:15936], tone[:, 64:-64]) and filled[:, 16000:].abs().max() == 0
    assert max(cut.diff().abs().max(), filled.diff().abs().max()) < 1.5 * tone.diff().abs().max()


def test_packed_latents_are_those_of_the_autoencoder_and_decode_to_the_same_picture():
    plain = video_autoencoder()
    packed = VideoAutoencoder(plain.vae, pack=2)
    pixels = torch.randn(1, 3, 3, 32, 16).clamp(-1, 1)
    latents = packed.encode_video(pixels)
    assert packed.factor == 2 * plain.factor and packed.channels == 4 * plain.channels
    assert latents.shape == (1, 3, packed.channels, 32 // packed.factor, 16 // packed.factor)
    whole = plain.encode_video(pixels)
    assert torch.equal(packed.decode_video(latents), plain.decode_video(whole))
    torch.testing.assert_close(unpack_latents(latents, 2), whole)


class LiveBytes(TorchDispatchMode):
    """Most bytes of results that were alive at once."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.live += tensor.nbytes
                self.peak = max(self.peak, self.live)
                weakref.finalize(tensor, self.release, tensor.nbytes)
        return result

    def release(self, size):
        self.live -= size


def test_the_memory_of_decoding_does_not_grow_with_the_frames():
    codec = video_autoencoder(patch=4, levels=1)

    def peak(frames, chunk_size):
        latents = torch.randn(frames, 4, 8, 8)
        with LiveBytes() as measured:
            for _ in codec.decode_frames(latents, chunk_size):
                pass
        return measured.peak

    one_chunk = peak(4, 4)
    assert peak(32, 4) < 1.3 * one_chunk  # the latents themselves, and one chunk more in the hand of the caller
    assert peak(32, 32) > 6 * one_chunk, "without chunks it does grow"
