"""What the experts' training minimises: which scenes, levels and conditions it draws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from jointdit.diffusion.denoiser import add_noise
from jointdit.errors import InputError
from jointdit.recipes.tiny import objectives
from jointdit.recipes.tiny.cache import suggested_effects
from jointdit.recipes.tiny.objectives import ExpertsObjective, SoundObjective, VideoObjective, change_weight


def test_without_a_prompt_scenes_show_what_their_picture_suggests(make_objective):
    objective = make_objective()
    suggested = set(objective.scenes.suggested().tolist())
    assert 6 in suggested, "six scenes of any effect, and one of the effect that its picture suggests"
    flags = torch.arange(200) % 2 == 0
    index = objective.draw_scenes(flags, torch.Generator().manual_seed(0))
    assert set(index[flags].tolist()) == {number for number in suggested if number >= 2}
    assert set(index[~flags].tolist()) == set(range(2, 7)), "the first two are held out"


def test_a_cache_without_any_suggested_scene_is_refused(make_objective):
    objective = make_objective()
    unlike = ["ball" if effect != "ball" else "bell" for effect in suggested_effects(objective.scenes.picture)]
    scenes = replace(objective.scenes, effects=tuple(unlike))
    with pytest.raises(InputError, match="none of 7 scenes shows what its picture suggests"):
        ExpertsObjective(objective.recipe, objective.model, objective.tokenizer, scenes, objective.sounds, batch=1)


def test_conditions_drop_out_as_guidance_expects(make_objective):
    objective = make_objective()
    torch.nn.init.normal_(objective.model.joint_blocks.image_to_text[0].weight)
    without_prompt = torch.tensor([False, True, False])
    unconditional = torch.tensor([False, False, True])
    captions = [objective.scenes.captions[2]] * 3
    with torch.no_grad():
        cond = objective.conditions(torch.tensor([2, 2, 2]), without_prompt, unconditional, captions)
    assert cond.image_latents[2].abs().sum() == cond.context_image[2].abs().sum() == 0
    assert not torch.equal(cond.audio_embeds[0], cond.audio_embeds[1]), "the text counts"
    assert not torch.equal(cond.audio_embeds[1], cond.audio_embeds[2]), "without a prompt the image's residual is there"
    torch.testing.assert_close(cond.context_text[1], cond.context_text[2])


def test_all_parts_learn_together(make_objective):
    objective = make_objective(batch=3)
    objective.loss(torch.Generator().manual_seed(0), 0.0).backward()
    for part in ("video_unet", "audio_unet", "joint_blocks", "text_encoder", "image_encoder"):
        assert any(
            each.grad is not None and each.grad.abs().sum() > 0 for each in getattr(objective.model, part).parameters()
        )


def test_the_video_objective_needs_no_gradient_of_the_audios_end(make_objective):
    objective = make_objective(VideoObjective)
    objective.loss(torch.Generator().manual_seed(0), 0.0).backward()
    assert objective.model.video_unet.conv_out.weight.grad.abs().sum() > 0
    assert objective.model.audio_unet.conv_out.weight.grad is None


def test_the_sound_objective_teaches_the_audio_expert_and_not_the_video_expert(make_objective):
    objective = make_objective(SoundObjective)
    objective.loss(torch.Generator().manual_seed(0), 0.0).backward()
    gradients = {name: parameter.grad for name, parameter in objective.model.named_parameters()}
    assert gradients["audio_unet.conv_in.weight"].abs().sum() > 0
    assert all(gradient is None for name, gradient in gradients.items() if name.startswith("video_unet."))


def test_a_share_of_the_levels_lies_on_the_path_of_the_sampler(make_objective, recipe):
    experts = replace(recipe.experts, path_share=1.0, path_width=0.0)
    objective = make_objective(changed=replace(recipe, experts=experts), batch=64)
    drawn = objective.draw_levels(torch.Generator().manual_seed(0))
    order = drawn.video_sigma.argsort()
    assert (drawn.audio_timestep[order].diff() >= 0).all(), "both noises fall together"
    assert drawn.video_sigma.max() > 100 and 800 < drawn.audio_timestep.max() <= recipe.sampling.audio_start
    torch.testing.assert_close(drawn.audio_sigma, objective.clock.audio_sigma(drawn.audio_timestep).float())
    moving = objective.draw_levels(torch.Generator().manual_seed(0), recipe.sampling.part_above(1.0))
    assert moving.video_sigma.min() > 1


def test_events_are_hidden_where_both_modalities_are_noisy(make_objective):
    objective = make_objective()
    noise = objective.clock
    pairs = torch.tensor([[30.0, 900.0], [30.0, 0.0], [noise.sigma_min, 900.0], [noise.sigma_min, 0.0]]).double()
    assert objective.events_hidden(noise.levels(*pairs.T)).tolist() == [True, False, False, False]


def test_errors_weigh_more_where_the_scene_leaves_its_first_frame(make_objective):
    video = torch.zeros(1, 4, 2, 2, 2)
    video[:, 2:, :, 0, 0] = 3.0
    weight = change_weight(video, heaviest=4.0)
    assert weight.mean().item() == pytest.approx(1)
    assert (weight[0, 2:, 0, 0, 0] > 3 * weight[0, 0, 0, 0, 0]).all()
    still = torch.ones(1, 4, 1, 2, 2)
    assert torch.equal(change_weight(video[:, :1].expand_as(video), 4.0), still), "a still video has one weight"
    assert torch.equal(change_weight(video, 0.0), still)


def test_a_share_of_the_videos_levels_is_where_objects_are_painted(make_objective, recipe):
    videos = replace(recipe.videos, painting_share=1.0, painting_sigmas=(1.0, 20.0))
    objective = make_objective(VideoObjective, replace(recipe, videos=videos), batch=200)
    drawn = objective.draw_levels(torch.Generator().manual_seed(0))
    levels = objective.draw_painting(drawn, torch.Generator().manual_seed(1))
    assert 1 <= levels.video_sigma.min() < 2 and 10 < levels.video_sigma.max() <= 20
    assert torch.equal(levels.audio_timestep, drawn.audio_timestep)


def test_twins_stand_side_by_side_in_the_same_noise(make_objective, recipe, monkeypatch):
    objective = make_objective(VideoObjective, replace(recipe, videos=replace(recipe.videos, twins=0.5)), batch=10)
    seen = []
    monkeypatch.setattr(objectives, "add_noise", lambda *given: seen.append(given) or add_noise(*given))
    objective.loss(torch.Generator().manual_seed(0), 0.0)
    clean, noise, levels = seen[0]
    row = [int((objective.scenes.video.float() == each).flatten(1).all(1).nonzero()) for each in clean.video]
    assert row[:4] in objective.twins.tolist(), "half of ten, in whole fours; the others are held out"
    assert max(row[4:]) < objective.scenes.single
    for each in (noise.video, noise.audio, levels.video_sigma, levels.audio_timestep):
        first, *others = each[:5]
        assert [torch.equal(first, other) for other in others] == [True, True, True, False]


def test_what_is_said_of_held_out_twins_counts_for_their_colour(make_objective, monkeypatch):
    objective = make_objective(VideoObjective)
    asked = []
    conditions = objective.conditions
    monkeypatch.setattr(objective, "conditions", lambda *given: asked.append(given) or conditions(*given))
    found = objective.evaluate()
    assert found["video_own_colour"] > 0 and found["video_another_colour"] > 0
    (own, *_, told), (again, *_, other) = asked[-8], asked[-4]
    assert own.tolist() == again.tolist() == objective.scenes.twins[0].tolist()
    assert told == [objective.scenes.captions[row] for row in own] and other == [told[-1], *told[:-1]]


def test_without_twins_in_the_cache_there_are_none_in_a_batch(make_objective, recipe):
    found = make_objective(VideoObjective)
    scenes = replace(found.scenes, twins=found.scenes.twins[:0])
    objective = VideoObjective(recipe, found.model, found.tokenizer, scenes, found.sounds, 10)
    assert objective.draw_twins(torch.Generator()).tolist() == [] and "video_own_colour" not in objective.evaluate()
    assert objective.first_of_twins(0).tolist() == list(range(10))


def test_sounds_are_learned_beside_what_the_model_paints(make_objective, recipe):
    sounds = replace(recipe.sounds, painted=0.5)
    objective = make_objective(SoundObjective, replace(recipe, sounds=sounds), batch=16)
    index = torch.full((16,), 2)
    clean, none = objective.latents(index), torch.zeros(16, dtype=torch.bool)
    cond = objective.conditions(index, none, none, objective.captions(index, none))
    painted = objective.paint(clean, cond, torch.Generator().manual_seed(0))
    assert torch.equal(painted.audio, clean.audio)
    same = (painted.video == clean.video).flatten(1).all(1)
    assert 2 < same.sum() < 14
    objective.loss(torch.Generator().manual_seed(0), 0.0).backward()
    assert objective.model.video_unet.conv_in.weight.grad is None


def test_of_sounds_only_what_is_computed_of_the_video_is_in_bfloat16(make_objective, recipe):
    seen = []
    for bfloat16 in (False, True):
        objective = make_objective(SoundObjective, replace(recipe, sounds=replace(recipe.sounds, bfloat16=bfloat16)))
        index, none = torch.tensor([2, 3]), torch.zeros(2, dtype=torch.bool)
        clean, cond = objective.clips(index, none, none)
        noise, levels = clean.map(torch.zeros_like), objective.clock.levels(*torch.tensor([[0.1, 0.1], [0.0, 0.0]]))
        seen.append(objective.see_video(clean, noise, levels, cond).blocks[0].key.detach())
    assert seen[1].dtype == torch.float32 and not torch.equal(*seen)
    assert 0 < (seen[1] - seen[0]).norm() / seen[0].norm() < 0.05


def test_without_a_prompt_a_given_video_may_be_alone_to_say_what_is_heard(make_objective, recipe):
    """Then the picture's residual, which guesses from its colours, is not there either."""
    seen = {}
    for suggested in (0.0, 1.0):
        sounds = replace(recipe.sounds, without_prompt=1.0, unconditional=0.0, suggested=suggested)
        objective = make_objective(SoundObjective, replace(recipe, sounds=sounds))
        objective.loss(torch.Generator().manual_seed(0), 0.0).backward()
        seen[suggested] = objective.model.joint_blocks.image_to_text[0].weight.grad
    assert seen[0.0] is None or not seen[0.0].any()
    assert seen[1.0].any()
