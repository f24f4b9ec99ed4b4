"""Recipe of the bundled model's experts, Joint Blocks and encoders: trained together on cached latents.

    python -m jointdit.train.joint cache --runs runs/tiny --clips 4000
    python -m jointdit.train.joint train --runs runs/tiny --minutes 90

Both go on where they stopped. Most samples are seen jointly; some are isolated, so that the experts also stand alone,
which JointCFG needs; conditions drop out, so that guidance has something to subtract.
"""

from __future__ import annotations

import argparse
import copy
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, DDIMScheduler, EulerDiscreteScheduler
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTokenizer, SpeechT5HifiGan

from ..autoencoders import AudioAutoencoder, VideoAutoencoder
from ..conditioning import encode_clip_image, encode_clip_text, join, speak_for_image
from ..denoiser import JointDenoiser
from ..experts.temporal import flatten_temporal_convolutions
from ..latents import JointLatents
from ..model import Conditioning, JointDiTModel
from ..pipeline import Defaults, JointDiTPipeline
from ..schedules import NoiseClock
from .checkpoint import load_average
from .latent_pool import LatentPool, write_shards
from .loop import Budget, fit
from .tiny import (
    MOTION_BUCKET,
    NOISE_AUGMENTATION,
    PICTURE_SIZE,
    SHAPE,
    TinyModel,
    load_tokenizer,
    train_tokenizer,
)

logger = logging.getLogger(__name__)
HELD_OUT = 48  # scenes


@dataclass(frozen=True)
class Dropout:
    """Shares of samples: isolated; without text (the picture speaks); without any condition."""

    isolated: float = 0.25
    text: float = 0.15
    all: float = 0.1


class JointTask:
    """The shared objective of both experts (jointdit.denoiser); everything above the autoencoders learns."""

    def __init__(self, model: TinyModel, denoiser: JointDenoiser, tokenizer, processor, pool: LatentPool, batch: int):
        self.model, self.denoiser, self.tokenizer, self.processor = model, denoiser, tokenizer, processor
        self.pool, self.batch, self.dropout = pool, batch, Dropout()
        self.held_out = torch.arange(HELD_OUT)  # the first ones, so that a growing pool keeps them

    def conditions(self, index: Tensor, silent: Tensor, null: Tensor) -> Conditioning:
        """Conditions of the scenes `index` [B]: without text where `silent`, without text and picture where `null`."""
        model, pool = self.model, self.pool
        texts = ["" if drop else pool.captions[row] for row, drop in zip(index.tolist(), silent | null, strict=True)]
        keep = (~null).float()
        picture = pool.picture[index].float() / 127.5 - 1
        image = encode_clip_image(self.processor, model.image_encoder, picture) * keep[:, None, None]
        latents = pool.image[index].float() * keep[:, None, None, None]
        text = encode_clip_text(self.tokenizer, model.text_encoder, texts)
        cond = join(image, latents, text, SHAPE.fps, MOTION_BUCKET, NOISE_AUGMENTATION)
        return speak_for_image(model.joint_blocks, cond, silent)

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        index = torch.randint(HELD_OUT, len(self.pool.captions), (self.batch,), generator=generator)
        silent, null, isolated = torch.rand(3, self.batch, generator=generator)
        null = null < self.dropout.all
        video, audio = self.losses(index, silent < self.dropout.text, null, isolated < self.dropout.isolated, generator)
        return video.mean() + audio.mean()

    def losses(
        self, index: Tensor, silent: Tensor, null: Tensor, isolated: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Squared error of the raw v and of the raw epsilon, [B] each."""
        clean = JointLatents(self.pool.video[index].float(), self.pool.audio[index].float())
        return self.denoiser.losses(clean, self.conditions(index, silent, null), isolated, generator)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Losses of held-out scenes with all conditions, joint and isolated: what the Joint Blocks gain."""
        self.model.eval()
        found: dict[str, float] = {}
        for name, isolated in (("joint", False), ("isolated", True)):
            parts = []
            for number, index in enumerate(self.held_out.split(self.batch)):
                flags = torch.zeros(len(index), dtype=torch.bool)
                generator = torch.Generator().manual_seed(number)
                parts.append(torch.stack(self.losses(index, flags, flags, flags | isolated, generator)))
            video, audio = torch.cat(parts, 1).mean(1).tolist()
            found |= {f"video_{name}": video, f"audio_{name}": audio}
        return found


def assemble(model: TinyModel, runs: Path) -> JointDiTPipeline:
    """The trained parts and the finished autoencoders as one pipeline."""
    trained = {name: child.eval() for name, child in model.named_children()}
    return JointDiTPipeline(
        defaults=Defaults(
            frames=SHAPE.frames,
            fps=str(SHAPE.fps),
            height=SHAPE.height,
            width=SHAPE.width,
            motion_bucket=MOTION_BUCKET,
            noise_augmentation=NOISE_AUGMENTATION,
            steps=10,
            video_temperature=0.3,
            audio_start=830,
            guidance={"mode": "joint-cfg", "video_joint_scale": 1.4, "audio_joint_scale": 1.4},
        ),
        video_vae=AutoencoderKLTemporalDecoder.from_pretrained(runs / "video_vae"),
        audio_vae=AutoencoderKL.from_pretrained(runs / "audio_vae"),
        vocoder=SpeechT5HifiGan.from_pretrained(runs / "vocoder"),
        video_scheduler=VIDEO_SCHEDULER,
        audio_scheduler=AUDIO_SCHEDULER,
        feature_extractor=PROCESSOR,
        tokenizer=load_tokenizer(runs / "tokenizer"),
        **trained,
    )


# Noise levels of the two pretrained models, which the small ones share.
VIDEO_SCHEDULER = EulerDiscreteScheduler(
    prediction_type="v_prediction",
    timestep_type="continuous",
    timestep_spacing="leading",
    use_karras_sigmas=True,
    sigma_min=0.002,
    sigma_max=700.0,
)
AUDIO_SCHEDULER = DDIMScheduler(
    beta_start=0.0015,
    beta_end=0.0195,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
    timestep_spacing="leading",
)
PROCESSOR = CLIPImageProcessor(
    size={"shortest_edge": PICTURE_SIZE}, crop_size={"height": PICTURE_SIZE, "width": PICTURE_SIZE}
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("cache", "train", "export"))
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny"), help="autoencoders, cache and states")
    parser.add_argument("--clips", type=int, default=4000, help="cache: scenes to render and encode")
    parser.add_argument(
        "--part", default="0/1", help="cache: K/N, this process makes every N-th shard"
    )
    parser.add_argument("--steps", type=int, help="train: number of steps")
    parser.add_argument("--minutes", type=float, help="train: minutes, if not --steps")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1e-3, help="train: peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=Path("jointdit/tiny"), help="export: the bundled model"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    {"cache": cache, "train": train, "export": export}[arguments.command](arguments)


def cache(arguments: argparse.Namespace) -> None:
    """Tokenizer and latent shards."""
    runs = arguments.runs
    video = VideoAutoencoder(AutoencoderKLTemporalDecoder.from_pretrained(runs / "video_vae").eval())
    audio = AudioAutoencoder(AutoencoderKL.from_pretrained(runs / "audio_vae").eval(), vocoder=None)
    part, parts = (int(number) for number in arguments.part.split("/"))
    write_shards(runs / "latents", video, audio, arguments.clips, arguments.seed, part, parts)


def train(arguments: argparse.Namespace) -> None:
    """Everything above the autoencoders, from scratch or from the last state."""
    runs = arguments.runs
    pool = LatentPool.load(runs / "latents")
    torch.manual_seed(arguments.seed)
    model, average, tokenizer = build(runs, pool)
    flatten_temporal_convolutions(model)
    joint = JointDiTModel(model.video_unet, model.audio_unet, model.joint_blocks)
    denoiser = JointDenoiser(joint, NoiseClock(VIDEO_SCHEDULER, AUDIO_SCHEDULER))
    task = JointTask(model, denoiser, tokenizer, PROCESSOR, pool, arguments.batch)
    fit(
        task,
        runs / "joint.run",
        Budget(arguments.steps, arguments.minutes),
        arguments.rate,
        arguments.seed,
        average=average,
        log_every=20,
        evaluate_every=200,
    )


def build(runs: Path, pool: LatentPool) -> tuple[TinyModel, TinyModel, CLIPTokenizer]:
    """A new model, the copy that becomes its average, and the tokenizer, trained on the captions if not there."""
    folder = runs / "tokenizer"
    tokenizer = load_tokenizer(folder) if folder.exists() else train_tokenizer(pool.captions, folder)
    model = TinyModel(len(tokenizer), pool.video.shape[2], pool.audio.shape[1])
    return model, copy.deepcopy(model), tokenizer


def export(arguments: argparse.Namespace) -> None:
    """The averaged weights and the autoencoders as the bundled model, in half precision."""
    runs = arguments.runs
    _, average, _ = build(runs, LatentPool.load(runs / "latents"))
    load_average(runs / "joint.run" / "state.safetensors", average)
    pipeline = assemble(average, runs)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.half()
    pipeline.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
