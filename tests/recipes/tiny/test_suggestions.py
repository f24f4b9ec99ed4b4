"""The image encoder learns what pictures suggest."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from jointdit import JointDiTPipeline
from jointdit.errors import InputError
from jointdit.recipes.tiny.architecture import TinyModel
from jointdit.recipes.tiny.recipe import Architecture, Suggestions
from jointdit.recipes.tiny.suggestions import learn_suggestions, train_suggestions


def test_the_image_encoder_learns_what_pictures_suggest():
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(256, (400, 3, 1, 1), generator=generator, dtype=torch.uint8)
    torch.manual_seed(0)
    encoder = TinyModel(Architecture(), 600, 64, 8, 20).image_encoder
    before = copy.deepcopy(encoder.state_dict())
    known = learn_suggestions(encoder, colours.expand(-1, -1, 64, 64), Suggestions(steps=100), seed=0)
    assert known > 0.5, "one in ten is chance"
    assert not torch.equal(encoder.visual_projection.weight, before["visual_projection.weight"])


def test_the_command_writes_a_model_of_which_only_the_image_encoder_differs(recipe, tmp_path, tiny):
    few = Suggestions(steps=1, batch=2, held_out=2)
    # The cache's pictures are smaller than the bundled encoder's, which scales what it is given.
    train_suggestions(replace(recipe, start=tiny, output=tmp_path / "model", suggestions=few))
    old, new = (JointDiTPipeline.from_pretrained(folder) for folder in (tiny, tmp_path / "model"))
    assert not torch.equal(old.image_encoder.visual_projection.weight, new.image_encoder.visual_projection.weight)
    assert torch.equal(old.video_unet.conv_in.weight, new.video_unet.conv_in.weight)


def test_suggestions_need_a_model(recipe):
    with pytest.raises(InputError, match="--start"):
        train_suggestions(recipe)
