"""Two experts that never see each other: what each learns alone, and the model that is made of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jointdit import JointDiTPipeline
from jointdit.encoders.autoencoders import VideoAutoencoder
from jointdit.errors import InputError
from jointdit.recipes.tiny.apart import train_audio_alone, train_video_alone, write_pair
from jointdit.recipes.tiny.cache import write_shards, write_sounds
from jointdit.recipes.tiny.recipe import AloneStage, Budget, Cache, TinyRecipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> TinyRecipe:
    """Two steps of each expert at full size, on three scenes of the bundled model's autoencoders."""
    pipe = JointDiTPipeline.from_pretrained(tiny)
    recipe = TinyRecipe(
        runs=tmp_path_factory.mktemp("apart"),
        start=tiny,
        output=tmp_path_factory.mktemp("pair") / "model",
        cache=Cache(clips=5, seed=5, sounds_per_clip=1),
        video_alone=AloneStage(budget=Budget(steps=2), batch=1, log_every=1, evaluate_every=2),
        audio_alone=AloneStage(budget=Budget(steps=2), batch=2, log_every=1, evaluate_every=2),
    )
    recipe = replace(recipe, experts=replace(recipe.experts, held_out=2)).on_coarse_grid()
    write_shards(recipe, VideoAutoencoder(pipe.video_vae), pipe.audio_codec)
    write_sounds(recipe, pipe.audio_codec)
    for name in ("video_vae", "audio_vae", "vocoder"):
        shutil.copytree(tiny / name, recipe.runs / name)
    train_video_alone(recipe)
    train_audio_alone(recipe)
    write_pair(recipe)
    return recipe


def test_the_pair_has_both_experts_and_joint_blocks_that_change_nothing(trained):
    pipe, own = JointDiTPipeline.from_pretrained(trained.output), JointDiTPipeline.from_pretrained(trained.start)
    for block in pipe.joint_blocks.blocks:
        for branch in (block.video, block.audio):
            assert not branch.modulation.weight.any() and not branch.modulation.bias.any()
    for name in ("video_unet", "audio_unet"):
        ours, theirs = (getattr(each, name).state_dict() for each in (pipe, own))
        assert not torch.equal(ours["conv_in.weight"], theirs["conv_in.weight"]), "from scratch"
    assert torch.equal(pipe.text_encoder.state_dict()["embeddings.token_embedding.weight"],
                       own.text_encoder.state_dict()["embeddings.token_embedding.weight"])  # fmt: skip


def test_each_learns_alone_and_its_log_has_the_errors_by_noise_level(trained):
    for modality, level in (("video", "11"), ("audio", "850")):
        lines = (trained.runs / f"{modality}_alone.run" / "log.jsonl").read_text().splitlines()
        last = json.loads(lines[-1])
        assert last["step"] == 2 and last[f"{modality}_{level}"] > 0
        assert not any(name.startswith({"video": "audio", "audio": "video"}[modality]) for name in last)


def test_a_pair_needs_both_experts_and_a_model_for_its_encoders(trained, tmp_path):
    with pytest.raises(InputError, match="video-alone` first"):
        write_pair(replace(trained, runs=tmp_path))
    with pytest.raises(InputError, match="name it with --start"):
        train_video_alone(replace(trained, start=None))
