"""The text encoder learns to keep the words that a scene tells of itself, such as a colour."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from jointdit import JointDiTPipeline
from jointdit.errors import InputError
from jointdit.recipes.tiny.architecture import text_encoder
from jointdit.recipes.tiny.attributes import AttributeObjective, strengthen, train_attributes
from jointdit.recipes.tiny.recipe import Architecture, AttributeStage, Budget
from jointdit.recipes.tiny.tokenizer import train_tokenizer
from jointdit.recipes.tiny.words import draw_captions

FEW = AttributeStage(budget=Budget(steps=1), captions=300, texts_per_step=32)


@pytest.fixture
def tokenizer(tiny) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(tiny / "tokenizer")


@pytest.fixture
def teacher(tokenizer) -> CLIPTextModel:
    """An encoder that has learned nothing."""
    torch.manual_seed(0)
    return text_encoder(Architecture(), len(tokenizer)).eval()


def test_a_word_of_the_scene_is_told_from_where_it_stands_to_the_end(teacher, tokenizer):
    objective = AttributeObjective(FEW, teacher, copy.deepcopy(teacher), tokenizer)
    red, blue, none = objective.target([f"a ball {word} bounces" for word in ("red", "blue", "that")])
    apart = (red - blue).square().mean(-1).sqrt()
    before, _ = objective._encode(teacher, ["a ball red bounces", "a ball blue bounces"])
    assert torch.equal(apart[:3], torch.zeros(3)), "what stands before a word cannot know it"
    assert (apart[3:] > 0.3).all()
    assert (none - objective._encode(teacher, ["a ball that bounces"])[0]).abs().max() < 1e-4, "no word, no code"
    assert (red - before[0]).square().mean(-1)[4:].max() < 0.5, "the answer is still near to the one before"


def test_a_student_keeps_the_words_of_a_scene(teacher, tokenizer):
    student = copy.deepcopy(teacher)
    objective = AttributeObjective(FEW, teacher, student, tokenizer)
    first = objective.evaluate()
    assert first["captions"] == pytest.approx(first["without_codes"])
    optimizer = torch.optim.Adam([each for each in student.parameters() if each.requires_grad], 2e-3)
    for step in range(200):
        optimizer.zero_grad()
        objective.loss(torch.Generator().manual_seed(step), 0.0).backward()
        optimizer.step()
    found = objective.evaluate()
    assert found["known"] > 0.8 > first["known"] and found["captions"] < 0.5 * found["without_codes"]
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_command_changes_the_text_encoder_and_what_reads_it_alone(recipe, tmp_path, tiny):
    changed = replace(recipe, runs=tmp_path, start=tiny, output=tmp_path / "model", attributes=FEW)
    train_attributes(changed)
    old, new = (JointDiTPipeline.from_pretrained(folder) for folder in (tiny, tmp_path / "model"))
    differs = {name for name, tensor in old.text_encoder.state_dict().items()
               if not torch.equal(tensor, new.text_encoder.state_dict()[name])}  # fmt: skip
    assert differs and not any("final_layer_norm" in name for name in differs)
    ours, theirs = (pipe.joint_blocks.state_dict() for pipe in (new, old))
    changed = {name for name, tensor in theirs.items() if not torch.equal(tensor, ours[name])}
    assert changed == {"text_context.1.weight", "text_context.1.bias"}
    for name in ("video_unet", "audio_unet", "image_encoder", "vocoder"):
        pairs = zip(getattr(old, name).parameters(), getattr(new, name).parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs), name


def test_joint_blocks_read_more_of_what_captions_do_not_have(tiny):
    pipe = JointDiTPipeline.from_pretrained(tiny)
    states = 0.01 * torch.randn(50, 24, 64, generator=torch.Generator().manual_seed(0))
    states[..., :32] = torch.randn(50, 24, 32, generator=torch.Generator().manual_seed(1))
    coded = states.clone()
    coded[..., 60] += 0.5
    before = [pipe.joint_blocks.text_context(each) for each in (states, coded)]
    strengthen(pipe.joint_blocks, states, 4.0)
    after = [pipe.joint_blocks.text_context(each) for each in (states, coded)]
    assert (after[0] - before[0]).std() < 0.1 * before[0].std()
    assert (after[1] - after[0]).std() > 2 * (before[1] - before[0]).std()


def test_every_word_must_be_a_token(teacher, tmp_path):
    few = train_tokenizer(draw_captions(20, 1)[0], replace(Architecture(), vocabulary=530), tmp_path)
    with pytest.raises(InputError, match="no tokens of the text encoder"):
        AttributeObjective(FEW, teacher, teacher, few)


def test_attributes_need_a_model(recipe):
    with pytest.raises(InputError, match="--start"):
        train_attributes(recipe)
