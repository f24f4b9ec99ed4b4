"""A recipe at the smallest size, with a cache of a few scenes."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder

import jointdit
from jointdit.encoders.autoencoders import AudioAutoencoder, VideoAutoencoder
from jointdit.latents import ClipShape
from jointdit.recipes.tiny.cache import load_cache, write_shards, write_sounds
from jointdit.recipes.tiny.experts import build
from jointdit.recipes.tiny.objectives import ExpertsObjective
from jointdit.recipes.tiny.recipe import Architecture, Cache, Experts, TinyRecipe

MakeObjective = Callable[..., ExpertsObjective]


@pytest.fixture(scope="session")
def codecs() -> tuple[VideoAutoencoder, AudioAutoencoder]:
    """Untrained autoencoders of the right shapes."""
    torch.manual_seed(0)
    video = AutoencoderKLTemporalDecoder(in_channels=192, out_channels=192, block_out_channels=(32,), latent_channels=4)
    audio = AutoencoderKL(in_channels=16, out_channels=16, block_out_channels=(32,), latent_channels=4)
    return VideoAutoencoder(video.eval()), AudioAutoencoder(audio.eval(), vocoder=None)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory, codecs: tuple[VideoAutoencoder, AudioAutoencoder]) -> TinyRecipe:
    """Its runs have the cache and the tokenizer."""
    pytest.importorskip("skimage", reason="the photos of jointdit[train] are not installed")
    small = TinyRecipe(
        runs=tmp_path_factory.mktemp("runs"),
        shape=ClipShape(8, Fraction(25, 2), 64, 64),
        architecture=Architecture(
            video_channels=(32, 32, 32),
            audio_channels=(16, 16, 16),
            joint_width=32,
            text_width=16,
            image_width=16,
            picture_size=32,
            vocabulary=600,
        ),
        cache=Cache(clips=6, seed=5, sounds_per_clip=1, clips_per_twins=1),
        experts=Experts(held_out=2),
    )
    codecs[0].vae.save_pretrained(small.runs / "video_vae")
    write_shards(small, *codecs)
    write_sounds(small, codecs[1])
    return small


@pytest.fixture
def make_objective(recipe: TinyRecipe) -> MakeObjective:
    """Makes an objective of a kind over a new model, by a recipe over the same cache."""

    def make(
        kind: type[ExpertsObjective] = ExpertsObjective, changed: TinyRecipe = recipe, batch: int = 1
    ) -> ExpertsObjective:
        torch.manual_seed(1)
        scenes, sounds = load_cache(changed)
        model, tokenizer = build(changed, scenes)
        return kind(changed, model, tokenizer, scenes, sounds, batch)

    return make


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The folder of the bundled model."""
    return Path(jointdit.__file__).with_name("tiny")
