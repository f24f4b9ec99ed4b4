"""Conditions of training: which of them drop out, and what stands in for them."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from tiny_models import joint_blocks

from jointdit.encoders.conditioning import TextEmbeddings, join, training_conditions, without_image
from jointdit.models.model import Conditioning

IDS = (Fraction(25, 2), 127.0, 0.02)


def embeddings(batch: int) -> tuple[torch.Tensor, torch.Tensor, TextEmbeddings]:
    """Image embedding, image latents and texts as `tiny_models.joint_blocks` takes them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator)

    return draw(1, 24), draw(4, 8, 8), TextEmbeddings(draw(3, 12), draw(5, 20), torch.ones(batch, 5), draw(3, 16))


@pytest.mark.parametrize("unconditional", [False, True])
@pytest.mark.parametrize("without_prompt", [False, True])
def test_dropped_conditions(without_prompt: bool, unconditional: bool) -> None:
    blocks = joint_blocks()
    for layer in blocks.image_to_text:
        torch.nn.init.normal_(layer.weight)
    image, latents, text = embeddings(2)
    flags = torch.tensor([False, without_prompt]), torch.tensor([False, unconditional])
    found: Conditioning = training_conditions(blocks, image, latents, text, *flags, *IDS)
    plain = join(image, latents, text, *IDS)
    for name in vars(plain):
        assert torch.equal(getattr(found, name)[0], getattr(plain, name)[0]), name
    for name in ("video_embeds", "image_latents", "context_image"):
        kept = getattr(plain, name)[1] * (not unconditional)
        assert torch.equal(getattr(found, name)[1], kept), name
    residuals = blocks.image_to_audio(image[1:])
    for name, residual in zip(("audio_embeds", "audio_embeds_1"), residuals, strict=True):
        added = residual[0] * (without_prompt and not unconditional)
        torch.testing.assert_close(getattr(found, name)[1], getattr(plain, name)[1] + added)
        assert residual.abs().max() > 0


def test_the_video_is_measured_from_the_picture_even_where_that_is_dropped() -> None:
    blocks, (image, latents, text), none = joint_blocks(), embeddings(2), torch.zeros(2, dtype=torch.bool)
    found = training_conditions(blocks, image, latents, text, none, ~none, *IDS, origin=0.5)
    assert torch.equal(found.video_origin, 0.5 * latents) and not found.image_latents.any()
    cond = join(image, latents, text, *IDS, origin=0.5)
    assert torch.equal(without_image(cond).video_origin, cond.video_origin)
