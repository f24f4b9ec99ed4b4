"""The pipeline over real experts at small size: build, save, load, condition, sample, decode."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AudioLDM2Pipeline, StableVideoDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import SHAPE, seeded, write_experts
from transformers import CLIPTextConfig, CLIPTextModel

from jointdit import InputError, JointCFG, JointDiTPipeline, SamplingSettings
from jointdit.checkpoints.folders import load_component, load_components, read_index, save_components
from jointdit.diffusion.schedules import resample
from jointdit.media import Clip


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    return write_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="module")
def pipe(experts):
    return JointDiTPipeline.from_experts(*experts)


@pytest.fixture
def saved(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def run(pipe, picture, seed=0, **options):
    return pipe(picture, **({"prompt": "a ball", "steps": 2, "generator": seeded(seed)} | SHAPE | options))


def test_clip_has_exactly_what_was_asked(pipe, picture):
    stages = []
    clip = run(pipe, picture, callback=lambda *stage: stages.append(stage))
    assert clip.frames.shape == (4, 40, 48, 3) and clip.frames.dtype == np.uint8
    assert clip.audio.shape == (1, 8000) and clip.sample_rate == 16000 and clip.fps == 8
    assert stages == [("sample", 0, 2), ("sample", 1, 2), ("sample", 2, 2), ("decode", 4, 4)]


def test_a_model_may_start_its_clips_with_the_picture_itself(pipe, picture, saved):
    index = json.loads((saved / "model_index.json").read_text())
    index["defaults"]["hold_first_frame"] = True
    (saved / "model_index.json").write_text(json.dumps(index))
    holding = JointDiTPipeline.from_pretrained(saved)
    conditions = holding.condition(
        [picture], ["a ball"], [None], holding.shape(**SHAPE), seeded(), noise_augmentation=0
    )
    wanted = conditions.conditional.image_latents * holding.video_vae.config.scaling_factor
    for sampler in ("euler", "heun", "dpmpp_2m", "lcm"):
        settings = SamplingSettings(steps=3, sampler=sampler)
        held = holding.sample(conditions, settings, generator=seeded()).video[:, 0]
        assert torch.allclose(held, wanted, atol=1e-4)
        assert not torch.allclose(pipe.sample(conditions, settings, generator=seeded()).video[:, 0], wanted, atol=0.1)


def test_seed_fixes_everything_and_another_seed_gives_another_clip(pipe, picture):
    first, again, other = run(pipe, picture), run(pipe, picture), run(pipe, picture, seed=1)
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.audio, again.audio)
    assert not np.array_equal(first.frames, other.frames) and not np.array_equal(first.audio, other.audio)


def test_a_given_video_keeps_its_frames_and_gets_a_sound_of_its_length(pipe):
    frames = np.random.default_rng(1).integers(0, 256, (10, 30, 50, 3), dtype=np.uint8)
    video = Clip(frames, 16, np.zeros((1, 0), np.float32), 16000)
    first, other = (pipe(video=video, steps=2, generator=seeded(seed), **SHAPE) for seed in (0, 1))
    assert np.array_equal(first.frames, frames[:8]) and first.fps == 16, "4 frames at 8 a second last half a second"
    assert first.audio.shape == (1, 8000) and not np.array_equal(first.audio, other.audio)
    with pytest.raises(InputError, match="lasts 0.25 s, 2 frames; 4 are asked"):
        pipe(video=Clip(frames[:4], 16, video.audio, 16000), **SHAPE)
    with pytest.raises(InputError, match="both a picture and a video"):
        pipe(frames[0], video=video)


def test_a_given_video_is_what_the_sound_is_made_for(pipe):
    """Its latents stand in the state, clean, at every step."""
    frames = np.random.default_rng(1).integers(0, 256, (4, 40, 48, 3), dtype=np.uint8)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    latents = pipe.video_codec.encode_video(pixels)
    conditions = pipe.condition([frames[0]], [None], [None], pipe.shape(**SHAPE), seeded())
    conditions = replace(conditions, video_latents=latents)
    held = pipe.sample(conditions, SamplingSettings(steps=2), generator=seeded())
    torch.testing.assert_close(held.video, latents)
    with pytest.raises(InputError, match="nothing is left to sample"):
        replace(conditions, audio_latents=held.audio)


def test_what_a_picture_suggests_does_not_speak_for_a_given_video(saved, picture):
    """In models whose pictures suggest an effect by their colours; others learned to go by the first frame."""
    found = {}
    for suggest in (True, False):
        index = json.loads((saved / "model_index.json").read_text())
        index["defaults"]["suggest_beside_video"] = suggest
        (saved / "model_index.json").write_text(json.dumps(index))
        pipe = JointDiTPipeline.from_pretrained(saved)
        torch.nn.init.ones_(pipe.joint_blocks.image_to_text[0].weight)
        shape = pipe.shape(**SHAPE)
        for given in (True, False):
            cond = pipe.condition([picture], [None], [None], shape, seeded(), given_video=given).conditional
            found[suggest, given] = cond.audio_embeds
    assert torch.equal(found[True, True], found[True, False])
    assert torch.equal(found[False, False], found[True, False]), "a picture that moves still suggests"
    assert not torch.equal(found[False, True], found[True, True])


def test_a_given_sound_is_kept_and_the_picture_moves_to_it(pipe, picture):
    samples = 0.2 * np.random.default_rng(2).standard_normal((2, 44100)).astype(np.float32)
    first, other = (run(pipe, picture, seed, audio=(samples, 44100)) for seed in (0, 1))
    assert np.array_equal(first.audio[:, :20000], samples[:, :20000]) and first.audio.shape == (2, 22050)
    assert not np.array_equal(first.frames, other.frames)


def test_several_pictures_give_several_clips(pipe, picture):
    clips = run(pipe, [picture, picture[::-1].copy()], prompt=["a ball", None], negative_prompt="rain")
    assert [clip.frames.shape for clip in clips] == [(4, 40, 48, 3)] * 2


def test_with_generators_of_their_own_clips_do_not_depend_on_each_other(pipe, picture):
    other = picture[::-1].copy()
    pair = run(pipe, [other, picture], generator=[seeded(3), seeded(4)])
    alone = run(pipe, picture, generator=[seeded(4)])
    assert np.abs(pair[1].frames.astype(int) - alone.frames).max() <= 1
    np.testing.assert_allclose(pair[1].audio, alone.audio, atol=1e-4)
    assert np.abs(pair[0].frames.astype(int) - alone.frames).max() > 1


def test_fresh_noise_of_a_clip_does_not_depend_on_those_beside_it(pipe, picture):
    pair = run(pipe, [picture, picture], generator=[seeded(3), seeded(4)], fresh_noise=1.0)
    alone = run(pipe, picture, generator=[seeded(4)], fresh_noise=1.0)
    assert np.abs(pair[1].frames.astype(int) - alone.frames).max() <= 1
    plain = run(pipe, picture, generator=[seeded(4)], fresh_noise=0.0)
    assert np.abs(plain.frames.astype(int) - alone.frames).max() > 1


def test_an_empty_or_blank_text_is_no_text(experts, picture):
    pipe = JointDiTPipeline.from_experts(*experts)
    for parameter in pipe.joint_blocks.image_to_text.parameters():
        torch.nn.init.normal_(parameter)  # what is added where there is no text

    def conditioned(*texts):
        found = pipe.condition([picture] * 3, texts, texts, pipe.shape(**SHAPE), seeded())
        return [each.audio_embeds for each in (found.conditional, found.unconditional)]

    for blank, none in zip(conditioned("", "a ball", " \n\t"), conditioned(None, "a ball", None), strict=True):
        assert torch.equal(blank, none) and torch.equal(none[0], none[2]) and not torch.equal(none[0], none[1])
    assert np.array_equal(run(pipe, picture, prompt="").audio, run(pipe, picture, prompt=None).audio)


def test_isolated_sound_knows_nothing_of_the_picture(experts, picture):
    pipe = JointDiTPipeline.from_experts(*experts)
    for block in pipe.joint_blocks.blocks:
        for branch in (block.video, block.audio):
            torch.nn.init.normal_(branch.modulation.bias, std=0.5)
    joint, other = (run(pipe, picture, video_temperature=heat).audio for heat in (0.5, 1))
    assert not np.array_equal(joint, other)
    alone, again = (run(pipe, picture, video_temperature=heat, isolated=True).audio for heat in (0.5, 1))
    assert np.array_equal(alone, again) and not np.array_equal(alone, joint)


def test_steps_resample_a_models_own_levels_and_scales_start_at_its_own(pipe, picture, monkeypatch):
    scales = {"mode": "joint-cfg", "video_joint_scale": 1.0, "audio_joint_scale": 1.5}
    own = replace(pipe.defaults, steps=3, sigmas=[50.0, 5.0, 1.0, 0.0], guidance=scales)
    monkeypatch.setattr(pipe, "defaults", own)
    default = run(pipe, picture, steps=None).audio
    assert np.array_equal(run(pipe, picture, steps=3).audio, default)
    assert np.array_equal(run(pipe, picture, steps=None, guidance=JointCFG("joint-cfg-star")).audio, default)
    two = run(pipe, picture, steps=None, sigmas=resample(torch.tensor(own.sigmas), 2))
    assert np.array_equal(run(pipe, picture, steps=2).audio, two.audio)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "lcm"])
@pytest.mark.parametrize("mode", ["none", "cfg", "joint-cfg", "joint-cfg-star"])
def test_every_sampler_and_guidance_runs_with_substeps(pipe, picture, sampler, mode):
    clip = run(pipe, picture, sampler=sampler, guidance=JointCFG(mode=mode), audio_substeps=2)
    assert np.isfinite(clip.audio).all()


def test_without_trained_joint_blocks_no_prediction_is_computed_twice(pipe, picture, monkeypatch):
    rows = []
    hook = pipe.video_unet.conv_out.register_forward_hook(lambda _, args, out: rows.append(len(out) // SHAPE["frames"]))
    clip = run(pipe, picture, guidance=JointCFG("joint-cfg-star"))
    hook.remove()
    assert set(rows) == {2}, "at the identity start the third is the first"
    monkeypatch.setattr("jointdit.pipeline.pipeline.are_closed", lambda blocks: False)
    whole = run(pipe, picture, guidance=JointCFG("joint-cfg-star"))
    np.testing.assert_allclose(clip.frames.astype(int), whole.frames, atol=1)
    np.testing.assert_allclose(clip.audio, whole.audio, atol=1e-3)


def test_saved_model_gives_the_same_clip(pipe, saved, picture):
    loaded = JointDiTPipeline.from_pretrained(saved)
    first, second = run(pipe, picture), run(loaded, picture)
    assert np.array_equal(first.frames, second.frames) and np.array_equal(first.audio, second.audio)
    index = json.loads((saved / "model_index.json").read_text())
    assert index["joint_blocks"] == ["jointdit", "JointBlocks"]
    assert index["feature_extractor"] == ["transformers", "CLIPImageProcessor"], "with or without torchvision"
    assert not list(saved.rglob("*.bin"))


def test_saving_over_a_model_replaces_it_and_over_anything_else_is_refused(pipe, saved, tmp_path):
    (saved / "stale").write_text("")
    pipe.save_pretrained(saved)
    assert not (saved / "stale").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with pytest.raises(InputError, match="no model folder"):
        pipe.save_pretrained(tmp_path / "photos")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "photos"]


def test_weights_of_a_saved_model_may_be_read_by_whom_its_other_files_may(saved):
    modes = {path.suffix: path.stat().st_mode for path in saved.rglob("*.*") if path.is_file()}
    assert modes[".safetensors"] == modes[".json"]


def test_joint_blocks_travel_in_a_file_of_their_own(pipe, experts, tmp_path, picture):
    torch.manual_seed(0)
    for block in pipe.joint_blocks.blocks:
        torch.nn.init.normal_(block.audio.modulation.bias)
    trained = run(pipe, picture)
    pipe.save_joint_blocks(tmp_path / "joint.safetensors")
    for block in pipe.joint_blocks.blocks:
        torch.nn.init.zeros_(block.audio.modulation.bias)
    loaded = JointDiTPipeline.from_experts(*experts, joint=tmp_path / "joint.safetensors")
    assert np.array_equal(run(loaded, picture).audio, trained.audio)
    assert not np.array_equal(run(pipe, picture).audio, trained.audio)


def change(folder, edit):
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("component", ["video_unet", "text_encoder_2", "joint_blocks", "vocoder"])
def test_weights_must_be_exactly_those_of_the_config(saved, component):
    folder = saved / component
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    name = sorted(load_file(next(folder.glob("*.safetensors"))))[0]
    edits = {
        f"lack {name}": lambda tensors: tensors.pop(name),
        "have stray, unknown": lambda tensors: tensors.update(stray=torch.zeros(1)),
        f"{name} has shape": lambda tensors: tensors.update({name: torch.zeros(3, 5, 7)}),
    }
    for message, edit in edits.items():
        change(folder, edit)
        with pytest.raises(InputError, match=f"{component}.*{message}"):
            JointDiTPipeline.from_pretrained(saved)
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        JointDiTPipeline.from_pretrained(saved)


@pytest.fixture(scope="module")
def whole(pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "model"
    pipe.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("video_unet/config.json", "{", "/config.json: not valid JSON"),
        ("video_unet/config.json", "[]", "/config.json"),
        ("audio_vae/config.json", '{"act_fn": 7}', "(/config.json)?: "),
        ("audio_unet/config.json", '{"transformer_layers_per_block": "x"}', "(/config.json)?: "),
        ("image_encoder/config.json", '{"hidden_size": "wide"}', "(/config.json)?: "),
        ("audio_scheduler/scheduler_config.json", '{"beta_schedule": "steep"}', "(/scheduler_config.json)?: "),
        ("feature_extractor/preprocessor_config.json", "[]", "(/preprocessor_config.json)?: "),
        ("tokenizer/tokenizer.json", "null", "(/tokenizer.json)?: "),
        ("tokenizer/tokenizer.json", None, r": no vocabulary \(vocab.json, "),
        ("vocoder", None, ": this component's folder is missing"),
    ],
)
def test_a_broken_component_is_named(whole, tmp_path, file, text, message):
    name = Path(file).parts[0]
    shutil.copytree(whole / name, tmp_path / name)
    if text is None:
        (tmp_path / file).rename(tmp_path / "gone")
    else:
        (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=f"{tmp_path / name}{message}") as error:
        load_components(tmp_path, {name: read_index(whole)[name]}, torch.float32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be a JSON object"),
        ("{}", "describes a None|must be a JSON object"),
        ('{"_class_name": "JointDiTPipeline"}', "names no video_vae, video_unet, .* and 9 more"),
        ('{"_class_name": "JointDiTPipeline", "colour": ["a", "b"]}', "colour'? is .* not a component"),
        ('{"_class_name": "JointDiTPipeline", "defaults": []}', "defaults .* must be an object"),
        ('{"_class_name": "JointDiTPipeline", "defaults": {"colour": 1}}', "defaults .* 'colour'"),
        ('{"_class_name": "JointDiTPipeline", "defaults": {"steps": null}}', "defaults .* steps is None"),
        (
            '{"_class_name": "JointDiTPipeline", "defaults": {"guidance": {"colour": 1}}}',
            "defaults .* 'guidance.colour'",
        ),
        ('{"_class_name": "JointDiTPipeline", "defaults": {"guidance": {"mode": "magic"}}}', "'magic'"),
    ],
)
def test_a_broken_index_is_named(tmp_path, text, message):
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        JointDiTPipeline.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"audio_start": 5000}, "audio_start 5000(.0)?: give a timestep above 0 and at most 999"),
        ({"audio_start": -3}, "audio_start -3(.0)?: give"),
        ({"audio_start": 0}, "audio_start 0(.0)?: give"),
        ({"audio_start": float("nan")}, "not valid JSON .NaN is not a number"),
        ({"audio_start": 5000, "audio_grid": "trailing"}, "audio_start 5000(.0)?: give"),
        ({"sigmas": [1.0, 2.0, 0.0]}, r"sigmas \[1.0, 2.0, 0.0\]: give values that fall"),
        ({"video_temperature": 3}, "video_temperature 3(.0)?: give a number from 0 to 2"),
        ({"steps": 0}, "steps is 0, but must be a whole number from 1"),
    ],
)
def test_defaults_that_no_clip_can_be_sampled_with_are_refused_with_the_file(saved, defaults, message):
    index = json.loads((saved / "model_index.json").read_text())
    index["defaults"] |= defaults
    (saved / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(
        InputError, match=f"{saved}(: defaults in model_index.json|/model_index.json): {message}"
    ) as error:
        JointDiTPipeline.from_pretrained(saved)
    assert "\n" not in str(error.value)


def test_clips_text_encoder_is_stored_by_its_published_names(tmp_path):
    """They are what every version of transformers reads."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    encoder = CLIPTextModel(CLIPTextConfig(vocab_size=9, max_position_embeddings=4, **sizes)).eval()
    save_components(tmp_path / "model", {"text_encoder": encoder}, {})
    folder = tmp_path / "model" / "text_encoder"
    assert all(name.startswith("text_model.") for name in load_file(folder / "model.safetensors"))
    again, words = load_component(CLIPTextModel, folder, torch.float32), torch.arange(4)[None]
    with torch.no_grad():
        assert torch.equal(again(words).last_hidden_state, encoder(words).last_hidden_state)


def test_unknown_models_are_named_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match="'nonsense'.*tiny"):
        JointDiTPipeline.from_pretrained("nonsense")
    with pytest.raises(InputError, match="model_index.json"):
        JointDiTPipeline.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(InputError, match="StableDiffusionPipeline"):
        JointDiTPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 50}, "use 48x40"),
        ({"height": 0}, "size is 48x0"),
        ({"frames": 10**6}, "1000000 frames of 48x40 are 5 GiB, but at most 4"),
        ({"frames": 0}, "frames is 0"),
        ({"fps": 0}, "fps is 0"),
        ({"frames": 1, "fps": 100}, "too short for sound"),
        ({"frames": 8, "fps": 0.001}, "8 frames at 0.001 fps last 8000 s, too long for one clip .at most 60 s"),
        ({"steps": 0}, "steps 0"),
        ({"sampler": "magic"}, "euler, heun, dpmpp_2m, lcm"),
        ({"audio_substeps": 0}, "sub-steps 0"),
        ({"fit": "squeeze"}, "cover, contain, stretch"),
        ({"prompt": ["a", "b"]}, "2 texts for 1 pictures"),
    ],
)
def test_bad_values_are_refused_with_the_value(pipe, picture, options, message):
    with pytest.raises(InputError, match=message):
        run(pipe, picture, **options)


@torch.no_grad()
def test_picture_is_encoded_as_stable_video_diffusion_does(pipe, picture):
    shape = pipe.shape(**SHAPE)
    small = np.ascontiguousarray(picture[:40, :48])
    ours = pipe.condition([small], [None], [None], shape, seeded(3)).conditional
    theirs = StableVideoDiffusionPipeline(
        pipe.video_vae, pipe.image_encoder, pipe.video_unet, pipe.video_scheduler, pipe.feature_extractor
    )
    image = Image.fromarray(small)
    torch.testing.assert_close(ours.video_embeds, theirs._encode_image(image, "cpu", 1, False), atol=1e-5, rtol=1e-4)
    pixels = theirs.video_processor.preprocess(image, height=40, width=48)
    noise = torch.randn(pixels.shape, generator=seeded(3))
    latents = theirs._encode_vae_image(pixels + 0.02 * noise, "cpu", 1, False)
    torch.testing.assert_close(ours.image_latents, latents, atol=1e-5, rtol=1e-4)
    assert ours.added_time_ids.tolist() == [[7.0, 127.0, pytest.approx(0.02)]]


@torch.no_grad()
def test_text_is_encoded_as_audioldm2_does(pipe):
    names = ("text_encoder", "text_encoder_2", "projection_model", "language_model", "tokenizer", "tokenizer_2")
    parts = {name: getattr(pipe, name) for name in (*names, "vocoder")}
    theirs = AudioLDM2Pipeline(
        vae=pipe.audio_vae, unet=pipe.audio_unet, scheduler=pipe.audio_scheduler, feature_extractor=None, **parts
    )
    embeds, mask, generated = theirs.encode_prompt("a dog barks", "cpu", 1, False)
    ours = pipe.encode_text(["a dog barks"])
    assert torch.equal(ours.audio_embeds, generated) and torch.equal(ours.audio_embeds_1, embeds)
    assert torch.equal(ours.audio_mask_1, mask)


@torch.no_grad()
def test_a_negative_text_is_read_at_the_length_of_its_text_as_audioldm2_does(pipe):
    names = ("text_encoder", "text_encoder_2", "projection_model", "language_model", "tokenizer", "tokenizer_2")
    parts = {name: getattr(pipe, name) for name in (*names, "vocoder")}
    theirs = AudioLDM2Pipeline(
        vae=pipe.audio_vae, unet=pipe.audio_unet, scheduler=pipe.audio_scheduler, feature_extractor=None, **parts
    )
    _, mask, generated = theirs.encode_prompt("a dog barks", "cpu", 1, True, negative_prompt="hiss")
    ours = pipe.encode_text(["hiss"], ["a dog barks"])
    torch.testing.assert_close(ours.audio_embeds, generated[:1], atol=1e-5, rtol=1e-5)
    assert torch.equal(ours.audio_mask_1, mask[:1])
    assert not torch.allclose(pipe.encode_text(["hiss"]).audio_embeds, generated[:1], atol=1e-3)


@torch.no_grad()
def test_each_distinct_text_is_encoded_once_and_apart_from_the_others(pipe):
    calls = []
    handle = pipe.text_encoder_2.register_forward_hook(lambda *_: calls.append(None))
    several, alone = pipe.encode_text(["rain", "a dog barks", "rain"]), pipe.encode_text(["rain"])
    handle.remove()
    assert len(calls) == 3, "two of three texts, and one"
    assert torch.equal(several.audio_embeds[[0, 2]], alone.audio_embeds.expand(2, -1, -1))
    assert several.audio_mask_1.sum(1).tolist() == [6, 13, 6] and alone.audio_mask_1.sum() == 6


@torch.no_grad()
def test_negative_side_has_no_picture_and_texts_of_two_lengths_fit_together(pipe, picture):
    conditions = pipe.condition([picture], ["a ball bounces"], ["noise"], pipe.shape(**SHAPE), seeded())
    null, full = conditions.unconditional, conditions.conditional
    assert null.image_latents.abs().sum() == null.video_embeds.abs().sum() == null.context_image.abs().sum() == 0
    assert null.audio_embeds_1.shape == full.audio_embeds_1.shape
    assert null.audio_mask_1.sum() < full.audio_mask_1.sum()
