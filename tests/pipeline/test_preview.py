"""What a clip looks like while it is sampled."""

from __future__ import annotations

import numpy as np
import torch
from tiny_models import SHAPE, seeded, write_experts

from jointdit import JointDiTPipeline
from jointdit.pipeline.preview import FastDecoder


def test_a_preview_resembles_the_picture_it_was_fitted_to():
    generator = torch.Generator().manual_seed(0)
    picture, mixing = torch.rand(8, 8, 3, generator=generator), torch.randn(3, 6, generator=generator)
    latents = (picture @ mixing).permute(2, 0, 1)
    (shown,) = FastDecoder(latents, picture)(latents[None])
    assert np.abs(shown / 255 - picture.numpy()).mean() < 0.05


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
