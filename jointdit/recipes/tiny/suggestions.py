"""The image encoder learns what pictures suggest, so that one without a text says which effect it wants.

    python -m jointdit.recipes.tiny.suggestions jointdit/tiny runs/suggesting --latents runs/tiny/latents

writes a copy of a model whose image encoder knows; `joint videos` and `joint sounds --start` make the rest listen.
`joint train` begins with this.
"""

from __future__ import annotations

import argparse
import copy
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from ...encoders.conditioning import encode_clip_image
from ...pipeline import JointDiTPipeline
from ...synthetic import EFFECTS
from ...train.loop import learning_rate, step_generator
from .architecture import PROCESSOR
from .latent_pool import LatentPool, suggested_effects

logger = logging.getLogger(__name__)
STEPS, BATCH, RATE = 4000, 64, 1e-3
GAIN, TINT = 0.4, 0.15  # how far brightness and colours of a picture are changed, as shares
KEPT = 1.0  # weight of what the encoder said before
HELD_OUT = 300  # pictures


def learn_suggestions(
    encoder: CLIPVisionModelWithProjection, pictures: Tensor, steps: int = STEPS, seed: int = 0
) -> float:
    """Train `encoder` in place on pictures, uint8 [N, 3, 64, 64], so that a linear map reads from its normalised
    embedding, as Joint Blocks do, what `suggested_effect` says. Returns the share of held-out pictures that are read
    rightly."""
    before = copy.deepcopy(encoder).eval().requires_grad_(False)
    held_out, pictures = pictures[:HELD_OUT], pictures[HELD_OUT:]
    torch.manual_seed(seed)
    width = encoder.config.projection_dim
    head = nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, len(EFFECTS)))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], betas=(0.9, 0.98), weight_decay=0.0)
    encoder.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(RATE, step, step / steps)
        generator = step_generator(seed, step)
        batch = _tinted(pictures[torch.randint(len(pictures), (BATCH,), generator=generator)], generator)
        embeds, old = (_embeds(model, batch) for model in (encoder, before))
        loss = nn.functional.cross_entropy(head(embeds), _suggestions(batch))
        loss = loss + KEPT * (embeds - old).square().mean() / old.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            logger.info("step %d, loss %.3f", step + 1, loss.item())
    encoder.eval()
    with torch.no_grad():
        return (head(_embeds(encoder, held_out)).argmax(1) == _suggestions(held_out)).float().mean().item()


def _tinted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 [B, 3, h, w], brighter or darker and of another tint."""
    gain, tint = torch.rand(len(pictures), 1, generator=generator), torch.rand(len(pictures), 3, generator=generator)
    factor = (1 + GAIN * (2 * gain - 1)) * (1 + TINT * (2 * tint - 1))
    return (pictures * factor[..., None, None]).round().clamp(0, 255).to(torch.uint8)


def _embeds(encoder: CLIPVisionModelWithProjection, pictures: Tensor) -> Tensor:
    return encode_clip_image(PROCESSOR, encoder, pictures.float() / 127.5 - 1)[:, 0]


def _suggestions(pictures: Tensor) -> Tensor:
    """uint8 [B, 3, h, w] -> numbers of effects [B]."""
    return torch.tensor([EFFECTS.index(effect) for effect in suggested_effects(pictures)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--latents", type=Path, default=Path("runs/tiny/latents"), help="shards whose pictures to use")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    pipe = JointDiTPipeline.from_pretrained(arguments.model)
    encoder = pipe.image_encoder.float()
    known = learn_suggestions(encoder, LatentPool.load(arguments.latents).picture, arguments.steps, arguments.seed)
    logger.info("%.0f%% of held-out pictures are read rightly", 100 * known)
    pipe.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
