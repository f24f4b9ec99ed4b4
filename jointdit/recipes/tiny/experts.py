"""Recipe of the bundled model's experts, Joint Blocks and encoders: trained together on cached latents.

    python -m jointdit.recipes.tiny.experts cache --runs runs/tiny --clips 4000
    python -m jointdit.recipes.tiny.experts train --runs runs/tiny --minutes 90
    python -m jointdit.recipes.tiny.experts videos --runs runs/tiny --minutes 40
    python -m jointdit.recipes.tiny.experts sounds --runs runs/tiny --minutes 20
    python -m jointdit.recipes.tiny.experts words --runs runs/tiny

Each goes on where it stopped, and starts from the averaged weights of the one before; what it minimises is in tasks.py.
Most samples are seen jointly; some are isolated, so that the experts also stand alone, which JointCFG needs; conditions
drop out, so that guidance has something to subtract. Three things save time: both UNets start at a linear estimate
(linear_start.py), so that the given picture stands from the first step; the audio expert, which is cheap, is trained on
sub-steps and on sounds alone too; the first part of training sees half clips.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, SpeechT5HifiGan

from ...diffusion.denoiser import JointDenoiser, add_noise, scale_audio
from ...diffusion.schedules import NoiseClock
from ...encoders.autoencoders import AudioAutoencoder, VideoAutoencoder
from ...latents import JointLatents
from ...models.experts.temporal import flatten_temporal_convolutions
from ...models.joint_block import JointBlocks
from ...models.model import JointDiTModel
from ...pipeline import Defaults, JointDiTPipeline
from ...train.checkpoint import load_average
from ...train.loop import Budget, fit
from .architecture import (
    AUDIO_SCHEDULER,
    AUDIO_START,
    AUDIO_SUBSTEPS,
    MOTION_BUCKET,
    NOISE_AUGMENTATION,
    PROCESSOR,
    SHAPE,
    SIGMAS,
    VIDEO_SCHEDULER,
    TinyModel,
    load_tokenizer,
    train_tokenizer,
    write_text,
)
from .latent_pool import LatentPool, SoundPool, write_shards, write_sounds
from .linear_start import start_as_mixture
from .suggestions import learn_suggestions
from .tasks import HELD_OUT, JointTask, SoundTask, VideoTask
from .words import WORD_STEPS, learn_words

logger = logging.getLogger(__name__)
STATE = "state.safetensors"
RUNS = ("joint.run", "videos.run", "sounds.run")  # each goes on from the one before
HALF_CLIPS = 0.4  # share of the budget spent on the first half of each clip, when training starts from scratch
OPEN_GATE = 0.5
HEAVIEST = 1000.0  # weight of audio errors, see JointDenoiser
SOUND_SEED = 500_000_000  # sounds alone are of other scenes
FACTORS = {"joint_blocks": 4.0, "text_encoder": 4.0} | {  # of the learning rate
    f"{unet}.{end}": 0.3
    for unet in ("video_unet", "audio_unet")
    for end in ("conv_in", "up_blocks.2.resnets.1", "conv_norm_out", "conv_out")
}


def assemble(model: TinyModel, tokenizer: CLIPTokenizer, runs: Path) -> JointDiTPipeline:
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
            steps=len(SIGMAS) - 1,
            hold_first_frame=True,
            sigmas=list(SIGMAS),
            audio_grid="trailing",
            audio_substeps=AUDIO_SUBSTEPS,
            audio_start=AUDIO_START,
            guidance={"mode": "joint-cfg", "video_joint_scale": 1.0, "audio_joint_scale": 2.5},
        ),
        video_vae=AutoencoderKLTemporalDecoder.from_pretrained(runs / "video_vae"),
        audio_vae=AutoencoderKL.from_pretrained(runs / "audio_vae"),
        vocoder=SpeechT5HifiGan.from_pretrained(runs / "vocoder"),
        video_scheduler=VIDEO_SCHEDULER,
        audio_scheduler=AUDIO_SCHEDULER,
        feature_extractor=PROCESSOR,
        tokenizer=tokenizer,
        **trained,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("cache", "train", "videos", "sounds", "words", "export"))
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny"), help="autoencoders, cache and states")
    parser.add_argument("--clips", type=int, default=4000, help="cache: scenes to render and encode")
    parser.add_argument("--part", default="0/1", help="cache: K/N, this process makes every N-th shard")
    parser.add_argument("--steps", type=int, help="train, words: number of steps")
    parser.add_argument("--minutes", type=float, help="train: minutes, if not --steps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=8e-4, help="train: peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="videos: autocast, for processors that have it")
    parser.add_argument("--start", type=Path, help="model to go on from, where --runs has no state")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="words: folder of WordNet 3.0")
    parser.add_argument("--output", type=Path, default=Path("jointdit/tiny"), help="export: the bundled model")
    arguments = parser.parse_args()
    if arguments.bfloat16 and arguments.command != "videos":
        # Errors of sounds in strong noise weigh up to HEAVIEST times as much, and so would the rounding.
        parser.error(f"--bfloat16 is for videos alone, not for {arguments.command}; leave it out")
    logging.basicConfig(level=logging.INFO)
    commands = {"cache": cache, "train": train, "videos": videos, "sounds": sounds, "words": words, "export": export}
    commands[arguments.command](arguments)


def cache(arguments: argparse.Namespace) -> None:
    """Tokenizer and latent shards."""
    runs = arguments.runs
    video = VideoAutoencoder(AutoencoderKLTemporalDecoder.from_pretrained(runs / "video_vae").eval())
    audio = AudioAutoencoder(AutoencoderKL.from_pretrained(runs / "audio_vae").eval(), vocoder=None)
    part, parts = (int(number) for number in arguments.part.split("/"))
    if part == 0:
        write_sounds(runs / "latents", audio, 2 * arguments.clips, SOUND_SEED + arguments.seed)
    write_shards(runs / "latents", video, audio, arguments.clips, arguments.seed, part, parts)


def train(arguments: argparse.Namespace) -> None:
    """Everything above the autoencoders, from scratch or from the last state."""
    runs = arguments.runs
    pool, sounds = LatentPool.load(runs / "latents"), SoundPool.load(runs / "latents")
    clock = NoiseClock(VIDEO_SCHEDULER, AUDIO_SCHEDULER)
    torch.manual_seed(arguments.seed)
    model, tokenizer = build(arguments)
    if not arguments.start and not (runs / "joint.run" / STATE).exists():
        known = learn_suggestions(model.image_encoder, pool.picture, seed=arguments.seed)
        logger.info("of %.0f%% of held-out pictures the image encoder knows what they suggest", 100 * known)
        video, audio = linear_estimates(pool, clock, torch.Generator().manual_seed(arguments.seed))
        start_as_mixture(model.video_unet, video)
        start_as_mixture(model.audio_unet, audio)
        open_at_own_time(model.joint_blocks)
    flatten_temporal_convolutions(model)
    joint = JointDiTModel(model.video_unet, model.audio_unet, model.joint_blocks)
    denoiser = JointDenoiser(joint, clock, heaviest=HEAVIEST)
    fit(
        JointTask(model, denoiser, tokenizer, pool, sounds, arguments.batch, 0.0 if arguments.start else HALF_CLIPS),
        runs / "joint.run",
        Budget(arguments.steps, arguments.minutes),
        arguments.rate,
        arguments.seed,
        average=copy.deepcopy(model),
        log_every=20,
        evaluate_every=500,
        factors=FACTORS,
    )


@torch.no_grad()
def open_at_own_time(blocks: JointBlocks) -> None:
    """Start Joint Blocks half open, with a constant part of queries and keys, the same for both modalities, in the
    channels that turn with time: tokens of the same moment attend to each other from the first step."""
    for block in blocks.blocks:
        for branch in (block.video, block.audio):
            torch.nn.init.constant_(branch.modulation.bias[-branch.channels :], OPEN_GATE)
            for layer in (branch.to_q, branch.to_k):
                heads = layer.bias.view(-1, branch.head_dim)
                heads[:, : branch.head_dim // 2] = 1.0
                heads[:, branch.head_dim // 2 :] = 0.0


def videos(arguments: argparse.Namespace) -> None:
    """The video expert once more, from the averaged weights of `train`; audio expert and encoders stay."""
    go_on(arguments, "videos.run", VideoTask, ("video_unet", "joint_blocks"))


def sounds(arguments: argparse.Namespace) -> None:
    """The audio expert once more, from the averaged weights of the run before; all that the video reads stays."""
    go_on(arguments, "sounds.run", SoundTask, ("audio_unet", "joint_blocks.image_to_text", "joint_blocks.audio_level"))


def words(arguments: argparse.Namespace) -> None:
    """A copy of the text encoder that knows more words, with a tokenizer of its own; all that reads it stays."""
    model, tokenizer = load(arguments)
    output, steps = arguments.runs / "words", arguments.steps or WORD_STEPS
    learn_words(model.text_encoder, tokenizer, arguments.wordnet, output, steps, arguments.seed)


def go_on(arguments: argparse.Namespace, name: str, task: type[JointTask], learning: Sequence[str]) -> None:
    """Train what begins with `learning`, and the audio's (or else the video's) halves of the Joint Blocks, as `task`
    does, from the averaged weights of the run before `name`."""
    runs = arguments.runs
    pool, sounds = LatentPool.load(runs / "latents"), SoundPool.load(runs / "latents")
    model, tokenizer = load(arguments, before=name)
    flatten_temporal_convolutions(model)
    half = "audio" if "audio_unet" in learning else "video"
    for key, parameter in model.named_parameters():
        branch = key.split(".")[3] if key.startswith("joint_blocks.blocks.") else None
        parameter.requires_grad_(branch == half if branch in ("audio", "video") else key.startswith(tuple(learning)))
    joint = JointDiTModel(model.video_unet, model.audio_unet, model.joint_blocks)
    denoiser = JointDenoiser(joint, NoiseClock(VIDEO_SCHEDULER, AUDIO_SCHEDULER), heaviest=HEAVIEST)
    budget = Budget(arguments.steps, arguments.minutes)
    fit(
        task(model, denoiser, tokenizer, pool, sounds, arguments.batch),
        runs / name,
        budget,
        arguments.rate,
        arguments.seed,
        average=copy.deepcopy(model),
        log_every=20,
        evaluate_every=500,
        factors=FACTORS,
        bfloat16=arguments.bfloat16,
    )


def load(arguments: argparse.Namespace, before: str | None = None) -> tuple[TinyModel, CLIPTokenizer]:
    """The averaged weights of the last run that there is, or of the last one before another, else those of `--start`.
    Raises FileNotFoundError."""
    model, tokenizer = build(arguments)
    names = RUNS[: RUNS.index(before)] if before else RUNS
    states = [path for name in names if (path := arguments.runs / name / STATE).exists()]
    if states:
        load_average(states[-1], model)
    elif not arguments.start:
        wanted = ", ".join(names)
        raise FileNotFoundError(
            f"{arguments.runs}: no state of {wanted}; run `python -m jointdit.recipes.tiny.experts train`"
        )
    return model, tokenizer


def linear_estimates(pool: LatentPool, clock: NoiseClock, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """By channel: v from (input, picture) [2, C] that leaves the picture standing still, and the least squares of
    epsilon from the input [1, C] over the levels of training."""
    index = torch.randint(HELD_OUT, len(pool.captions), (256,), generator=generator)
    clean = JointLatents(pool.video[index, :1].float(), pool.audio[index].float())
    levels = clock.sample_levels(len(index), generator).select(torch.arange(len(index)))
    noise = clean.map(lambda x: torch.randn(x.shape, generator=generator))
    audio = _least_squares(scale_audio(add_noise(clean, noise, levels).audio, levels), noise.audio)
    # v is -clean where the noise is strong; where it is weak, the clean estimate hardly depends on v.
    picture = _least_squares(pool.image[index].float(), -clean.video[:, 0])
    return torch.stack((torch.zeros_like(picture), picture)), audio[None]


def _least_squares(inputs: Tensor, target: Tensor) -> Tensor:
    """[B, C, h, w] each -> [C]."""
    return (inputs * target).sum((0, 2, 3)) / inputs.square().sum((0, 2, 3))


def build(arguments: argparse.Namespace) -> tuple[TinyModel, CLIPTokenizer]:
    """The model `--start`, whose autoencoders must be those of the cache, and its tokenizer; or a new model, with a
    tokenizer that is trained on the captions if it is not there."""
    if arguments.start:
        pipe = JointDiTPipeline.from_pretrained(arguments.start)
        model = TinyModel(len(pipe.tokenizer), pipe.video_unet.config.out_channels, pipe.audio_unet.config.in_channels)
        for name, _ in list(model.named_children()):
            setattr(model, name, getattr(pipe, name).float())
        return model, pipe.tokenizer
    pool, folder = LatentPool.load(arguments.runs / "latents"), arguments.runs / "tokenizer"
    tokenizer = load_tokenizer(folder) if folder.exists() else train_tokenizer(pool.captions, folder)
    return TinyModel(len(tokenizer), pool.video.shape[2], pool.audio.shape[1]), tokenizer


def export(arguments: argparse.Namespace) -> None:
    """The averaged weights and the autoencoders as the bundled model, in half precision."""
    runs = arguments.runs
    pipeline = assemble(*load(arguments), runs)
    if (runs / "words" / "text_encoder").exists():
        pipeline.register_modules(
            text_encoder=CLIPTextModel.from_pretrained(runs / "words" / "text_encoder", dtype=torch.float32),
            tokenizer=load_tokenizer(runs / "words" / "tokenizer"),
        )
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.half()
    pipeline.save_pretrained(arguments.output)
    for path in arguments.output.glob("*/config.json"):  # where a part was loaded from is nobody's business
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokens = arguments.output / "tokenizer" / "tokenizer.json"  # a third of it is white space
    whole = json.loads(tokens.read_text(encoding="utf-8"))
    write_text(tokens, json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
