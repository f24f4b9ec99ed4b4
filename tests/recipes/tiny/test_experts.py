"""The recipe of the bundled model: cached scenes, one objective, exact resume."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder

import jointdit
from jointdit import JointDiTPipeline
from jointdit.diffusion.denoiser import JointDenoiser
from jointdit.diffusion.schedules import NoiseClock
from jointdit.encoders.autoencoders import AudioAutoencoder, VideoAutoencoder
from jointdit.models.joint_block import video_positions
from jointdit.models.model import JointDiTModel
from jointdit.recipes.tiny import experts as joint
from jointdit.recipes.tiny import latent_pool, tasks
from jointdit.recipes.tiny.architecture import (
    AUDIO_SCHEDULER,
    AUDIO_START,
    TEXT_LENGTH,
    VIDEO_SCHEDULER,
    TinyModel,
    train_tokenizer,
)
from jointdit.recipes.tiny.suggestions import learn_suggestions
from jointdit.train.loop import Budget, fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pool of a few scenes, encoded by untrained autoencoders of the right shapes."""
    pytest.importorskip("skimage", reason="the photos of jointdit[train] are not installed")
    folder = tmp_path_factory.mktemp("pool")
    torch.manual_seed(0)
    video = AutoencoderKLTemporalDecoder(in_channels=192, out_channels=192, block_out_channels=(32,), latent_channels=4)
    audio = AutoencoderKL(in_channels=16, out_channels=16, block_out_channels=(32,), latent_channels=4)
    codecs = VideoAutoencoder(video.eval()), AudioAutoencoder(audio.eval(), vocoder=None)
    latent_pool.write_shards(folder, *codecs, clips=6, seed=5)
    before = next(folder.iterdir()).stat()
    latent_pool.write_shards(folder, *codecs, clips=6, seed=5)
    assert next(folder.iterdir()).stat() == before, "a finished shard is kept"
    latent_pool.write_sounds(folder, codecs[1], clips=3, seed=9)
    return folder


def task(folder, monkeypatch) -> tasks.JointTask:
    monkeypatch.setattr(tasks, "HELD_OUT", 2)
    pool = latent_pool.LatentPool.load(folder)
    tokenizer = train_tokenizer(pool.captions, folder / "tokenizer")
    torch.manual_seed(1)
    model = TinyModel(len(tokenizer), pool.video.shape[2], pool.audio.shape[1])
    denoiser = JointDenoiser(
        JointDiTModel(model.video_unet, model.audio_unet, model.joint_blocks),
        NoiseClock(VIDEO_SCHEDULER, AUDIO_SCHEDULER),
    )
    return tasks.JointTask(model, denoiser, tokenizer, pool, latent_pool.SoundPool.load(folder), batch=1)


def test_without_a_text_scenes_show_what_their_picture_suggests(folder, monkeypatch):
    job = task(folder, monkeypatch)
    suggested = set(job.pool.suggested().tolist())
    assert 6 in suggested, "six scenes of any effect, and one of the effect that its picture suggests"
    silent = torch.arange(200) % 2 == 0
    index = job.draw(silent, torch.Generator().manual_seed(0))
    assert set(index[silent].tolist()) == {number for number in suggested if number >= tasks.HELD_OUT}
    assert set(index[~silent].tolist()) == set(range(tasks.HELD_OUT, 7))


def test_the_picture_decides_only_where_neither_modality_tells():
    clock = NoiseClock(VIDEO_SCHEDULER, AUDIO_SCHEDULER)
    pairs = torch.tensor([[30.0, 900.0], [30.0, 0.0], [clock.sigma_min, 900.0], [clock.sigma_min, 0.0]]).double()
    assert tasks.undecided(clock.levels(*pairs.T)).tolist() == [True, False, False, False]


def test_a_pool_without_any_suggested_scene_is_refused(folder, monkeypatch):
    job = task(folder, monkeypatch)
    unlike = ["ball" if effect != "ball" else "bell" for effect in latent_pool.suggested_effects(job.pool.picture)]
    pool = replace(job.pool, effects=tuple(unlike))
    with pytest.raises(ValueError, match="none of 7 scenes shows what its picture suggests"):
        tasks.JointTask(job.model, job.denoiser, job.tokenizer, pool, job.sounds, batch=1)


def test_the_image_encoder_learns_what_pictures_suggest():
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(256, (400, 3, 1, 1), generator=generator, dtype=torch.uint8)
    torch.manual_seed(0)
    encoder = TinyModel(600, 64, 8).image_encoder
    before = copy.deepcopy(encoder.state_dict())
    assert learn_suggestions(encoder, colours.expand(-1, -1, 64, 64), steps=100) > 0.5, "one in ten is chance"
    assert not torch.equal(encoder.visual_projection.weight, before["visual_projection.weight"])


def test_the_bundled_model_is_trained_on_and_exported(tmp_path, monkeypatch):
    """Its text encoder is larger than a new model's, and all that a run does not teach stays as it is."""
    pytest.importorskip("skimage", reason="the photos of jointdit[train] are not installed")
    monkeypatch.setattr(tasks, "HELD_OUT", 2)
    tiny = Path(jointdit.__file__).with_name("tiny")
    for name in ("video_vae", "audio_vae", "vocoder"):
        (tmp_path / name).symlink_to(tiny / name)

    def command(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["joint", *words, "--runs", str(tmp_path), "--seed", "3"])
        joint.main()

    command("cache", "--clips", "6")
    for stage in ("videos", "sounds"):
        command(stage, "--start", str(tiny), "--steps", "1", "--batch", "1")
    command("export", "--start", str(tiny), "--output", str(tmp_path / "model"))
    old, new = (JointDiTPipeline.from_pretrained(folder) for folder in (tiny, tmp_path / "model"))
    changed = {
        name
        for name, component in old.components.items()
        if isinstance(component, torch.nn.Module)
        and any(
            not torch.equal(before, after)
            for before, after in zip(component.parameters(), getattr(new, name).parameters(), strict=True)
        )
    }
    assert changed == {"video_unet", "audio_unet", "joint_blocks"}
    assert not any("_name_or_path" in path.read_text() for path in (tmp_path / "model").glob("*/config.json"))
    assert new.defaults == old.defaults and new.tokenizer.get_vocab() == old.tokenizer.get_vocab()


def test_unseen_words_keep_all_their_letters(folder):
    tokenizer = train_tokenizer(["a ball bounces", "rain falls"], folder / "words")
    ids = tokenizer("Zebra crossing?", padding="max_length", max_length=TEXT_LENGTH).input_ids
    assert len(ids) == TEXT_LENGTH and tokenizer.decode(ids, skip_special_tokens=True).strip() == "zebra crossing ?"


def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(folder, tmp_path, monkeypatch):
    def run(name: str, *stops: int) -> dict[str, torch.Tensor]:
        for stop in stops:
            job = task(folder, monkeypatch)
            average = copy.deepcopy(job.model)
            # The schedule must know the whole length, so the stop is a crash.
            loss, calls = job.loss, iter(range(10))

            def crash(generator, progress, loss=loss, calls=calls, stop=stop, first=stop != stops[-1]):
                if first and next(calls) == stop:
                    raise KeyboardInterrupt
                return loss(generator, progress)

            job.loss = crash
            try:
                fit(job, tmp_path / name, Budget(steps=3), 1e-3, 0, log_every=1, save_seconds=0, average=average)
            except KeyboardInterrupt:
                continue
        return average.state_dict()

    whole, resumed = run("whole", 3), run("resumed", 2, 3)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    logs = [[json.loads(line)["loss"] for line in open(tmp_path / name / "log.jsonl")] for name in ("whole", "resumed")]
    assert logs[0] == logs[1] and len(logs[0]) == 3


def test_bfloat16_gives_nearly_the_same_losses_and_keeps_weights_whole(folder, tmp_path, monkeypatch):
    losses = []
    for bfloat16 in (False, True):
        job = task(folder, monkeypatch)
        fit(job, tmp_path / str(bfloat16), Budget(steps=2), 1e-4, 0, log_every=1, bfloat16=bfloat16)
        log = (tmp_path / str(bfloat16) / "log.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in log])
        assert {parameter.dtype for parameter in job.model.parameters()} == {torch.float32}
    assert losses[0] != losses[1], "the precision must have been used"
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("command", ["train", "sounds"])
def test_bfloat16_is_refused_where_its_rounding_would_be_learned(command, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["joint", command, "--steps", "1", "--bfloat16"])
    with pytest.raises(SystemExit):
        joint.main()
    assert f"--bfloat16 is for videos alone, not for {command}" in capsys.readouterr().err


def test_conditions_drop_out_as_guidance_expects(folder, monkeypatch):
    job = task(folder, monkeypatch)
    torch.nn.init.normal_(job.model.joint_blocks.image_to_text[0].weight)
    flags = torch.tensor([False, True, False])
    null = torch.tensor([False, False, True])
    with torch.no_grad():
        cond = job.conditions(torch.tensor([2, 2, 2]), flags, null, [job.pool.captions[2]] * 3)
    assert cond.image_latents[2].abs().sum() == cond.context_image[2].abs().sum() == 0
    assert not torch.equal(cond.audio_embeds[0], cond.audio_embeds[1]), "the text is heard"
    assert not torch.equal(cond.audio_embeds[1], cond.audio_embeds[2]), "without text the picture speaks"
    torch.testing.assert_close(cond.context_text[1], cond.context_text[2])


def test_sounds_alone_teach_the_audio_expert_and_not_the_video_expert(folder, monkeypatch):
    job = task(folder, monkeypatch)
    sounds = tasks.SoundTask(job.model, job.denoiser, job.tokenizer, job.pool, job.sounds, batch=1)
    sounds.loss(torch.Generator().manual_seed(0), 0.0).backward()
    gradients = {name: parameter.grad for name, parameter in job.model.named_parameters()}
    assert gradients["audio_unet.conv_in.weight"].abs().sum() > 0
    assert all(gradient is None for name, gradient in gradients.items() if name.startswith("video_unet."))


def test_joint_blocks_start_open_and_look_at_their_own_time():
    torch.manual_seed(0)
    blocks = TinyModel(600, 64, 8).joint_blocks
    joint.open_at_own_time(blocks)
    block, branch = blocks.blocks[0], blocks.blocks[0].video
    x = torch.zeros(1, 20, branch.width)  # content says nothing: what is left is the clock
    rotary = block.rotary(video_positions(torch.tensor([12.5]), 20, 1, 1, 0))
    scores = branch.query(x, rotary) @ branch.key_value(x, rotary).key.mT
    assert torch.equal(scores.argmax(-1), torch.arange(20).expand(scores.shape[:-1]))
    assert branch.modulation.bias[-branch.channels :].eq(joint.OPEN_GATE).all()


def test_a_share_of_the_levels_lies_on_the_way_of_the_sampler(folder, monkeypatch):
    monkeypatch.setattr(tasks, "WAY_SHARE", 1.0)
    monkeypatch.setattr(tasks, "WAY_WIDTH", 0.0)
    job = task(folder, monkeypatch)
    job.batch = 64
    drawn = job.levels(torch.Generator().manual_seed(0))
    order = drawn.video_sigma.argsort()
    assert (drawn.audio_timestep[order].diff() >= 0).all(), "both noises fall together"
    assert drawn.video_sigma.max() > 100 and 800 < drawn.audio_timestep.max() <= AUDIO_START
    torch.testing.assert_close(drawn.audio_sigma, job.denoiser.clock.audio_sigma(drawn.audio_timestep).float())
