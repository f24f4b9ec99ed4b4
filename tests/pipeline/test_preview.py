"""What a clip looks and sounds like while it is sampled."""

from __future__ import annotations

import numpy as np
import torch
from tiny_models import SHAPE, seeded, write_experts

from jointdit import JointDiTPipeline
from jointdit.pipeline.preview import FastDecoder, FastLoudness


def test_a_preview_resembles_the_picture_it_was_fitted_to():
    generator = torch.Generator().manual_seed(0)
    picture, mixing = torch.rand(8, 8, 3, generator=generator), torch.randn(3, 6, generator=generator)
    latents = (picture @ mixing).permute(2, 0, 1)
    (shown,) = FastDecoder(latents, picture)(latents[None])
    assert np.abs(shown / 255 - picture.numpy()).mean() < 0.05


def test_the_loudness_of_latents_follows_the_sound():
    pipe = JointDiTPipeline.from_pretrained("tiny")
    hear, rate = FastLoudness(pipe.audio_codec), pipe.layout.sample_rate
    noise = np.random.default_rng(0).standard_normal((1, 2 * rate)).astype(np.float32)
    gain = np.repeat(np.float32([0, 0.3, 0.003, 0.3]), rate // 2)
    latents = pipe.encode_audio(gain * noise, rate, pipe.shape(25, 12.5))
    heard, decoded = hear(latents[0]), pipe.audio_codec.decode_mel(latents).mean((0, 2)).detach().numpy()
    quarter = len(heard) // 4
    silent, loud, quiet, again = (heard[at + 2 : at + quarter - 2].mean() for at in range(0, 4 * quarter, quarter))
    assert 0 <= silent < 0.1 and silent + 0.1 < quiet < loud - 0.2 and abs(again - loud) < 0.03 and heard.max() < 1
    whole = decoded[: len(heard) * (len(decoded) // len(heard))].reshape(len(heard), -1).mean(1)
    assert np.corrcoef(heard, whole)[0, 1] > 0.98


def test_every_step_can_be_seen(tmp_path):
    pipe = JointDiTPipeline.from_experts(*write_experts(tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    shown = []
    clip = pipe(picture, steps=2, generator=seeded(), preview=shown.append, **SHAPE)
    factor = pipe.layout.video_factor
    assert [each.shape for each in shown] == [(4, 40 // factor, 48 // factor, 3)] * 2
    assert all(each.dtype == np.uint8 for each in shown)
    again = pipe(picture, steps=2, generator=seeded(), **SHAPE)
    assert np.array_equal(clip.frames, again.frames), "looking changes nothing"
