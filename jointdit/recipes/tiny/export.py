"""The command `export`: the trained parts and the autoencoders as one model folder, in half precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from transformers import CLIPTextModel, CLIPTokenizer, SpeechT5HifiGan

from ...pipeline import Defaults, JointDiTPipeline
from .architecture import TinyModel, audio_scheduler, image_processor, video_scheduler
from .experts import load
from .recipe import TinyRecipe
from .tokenizer import write_text


def export(recipe: TinyRecipe) -> None:
    """The averaged weights, with the text encoder of `words` where there is one, into the folder `output`."""
    pipeline = assemble(recipe, *load(recipe))
    words = recipe.runs / "words"
    if (words / "text_encoder").exists():
        pipeline.register_modules(
            text_encoder=CLIPTextModel.from_pretrained(words / "text_encoder", dtype=torch.float32),
            tokenizer=CLIPTokenizer.from_pretrained(words / "tokenizer"),
        )
    write_model(pipeline, recipe)


def write_model(pipeline: JointDiTPipeline, recipe: TinyRecipe) -> None:
    """A pipeline in half precision, into the folder `output`."""
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.half()
    pipeline.save_pretrained(recipe.output)
    make_portable(recipe.output)


def assemble(recipe: TinyRecipe, model: TinyModel, tokenizer: CLIPTokenizer) -> JointDiTPipeline:
    """The trained parts and the finished autoencoders as one pipeline."""
    shape, sampling = recipe.shape, recipe.sampling
    trained: dict[str, Any] = {name: child.eval() for name, child in model.named_children()}
    return JointDiTPipeline(
        defaults=Defaults(
            frames=shape.frames,
            fps=str(shape.fps),
            height=shape.height,
            width=shape.width,
            motion_bucket=sampling.motion_bucket,
            noise_augmentation=sampling.noise_augmentation,
            steps=len(sampling.sigmas) - 1,
            hold_first_frame=True,
            suggest_beside_video=False,
            sigmas=list(sampling.sigmas),
            audio_grid=sampling.audio_grid,
            audio_substeps=sampling.audio_substeps,
            audio_start=sampling.audio_start,
            guidance=dict(sampling.guidance),
            scale_range=sampling.scale_range,
            around_picture=sampling.around_picture,
        ),
        video_vae=AutoencoderKLTemporalDecoder.from_pretrained(recipe.runs / "video_vae"),
        audio_vae=AutoencoderKL.from_pretrained(recipe.runs / "audio_vae"),
        vocoder=SpeechT5HifiGan.from_pretrained(recipe.runs / "vocoder"),
        video_scheduler=video_scheduler(sampling),
        audio_scheduler=audio_scheduler(),
        feature_extractor=image_processor(recipe.architecture.picture_size),
        tokenizer=tokenizer,
        **trained,
    )


def make_portable(folder: Path) -> None:
    """Configs without the paths that parts were loaded from, and the tokenizer without the white space that is a third
    of it."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
    path = folder / "tokenizer" / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8")) | {"truncation": None, "padding": None}  # of its last use
    write_text(path, json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n")
