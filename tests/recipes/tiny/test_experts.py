"""Training of the experts: resume, precision, what each command changes, and the exported model."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from jointdit import JointDiTPipeline
from jointdit.errors import InputError
from jointdit.models.joint_block import video_positions
from jointdit.models.joint_start import open_at_own_time
from jointdit.recipes.tiny.architecture import TinyModel
from jointdit.recipes.tiny.cache import write_cache
from jointdit.recipes.tiny.experts import load, train, train_sounds, train_videos
from jointdit.recipes.tiny.export import export
from jointdit.recipes.tiny.milestones import load_milestone, save_milestone
from jointdit.recipes.tiny.recipe import (
    Architecture,
    Budget,
    Cache,
    Experts,
    ExpertStage,
    SoundStage,
    Suggestions,
    TinyRecipe,
    VideoStage,
)
from jointdit.recipes.tiny.training_loop import Stage, fit, step_generator
from jointdit.train.checkpoint import read_counters

ROOT = Path(__file__).parents[3]


def test_the_bundled_model_is_trained_on_and_exported(tmp_path, tiny):
    """Its text encoder is larger than a new model's, and all that a run does not teach stays as it is."""
    pytest.importorskip("skimage", reason="the photos of jointdit[train] are not installed")
    for name in ("video_vae", "audio_vae", "vocoder"):
        (tmp_path / name).symlink_to(tiny / name)
    once = {"budget": Budget(steps=1), "batch": 1, "seed": 3}
    recipe = TinyRecipe(
        runs=tmp_path,
        start=tiny,
        output=tmp_path / "model",
        cache=Cache(clips=6, seed=3, sounds_per_clip=1),
        experts=Experts(held_out=2),
        videos=VideoStage(**once),
        sounds=SoundStage(**once),
    )
    for command in (write_cache, train_videos, train_sounds, export):
        command(recipe)
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
    assert not list(tmp_path.rglob(".*")), "no temporary file is left"


def test_a_model_from_scratch_starts_at_its_initial_weights_and_later_runs_go_on(recipe, tmp_path):
    for name in ("latents", "tokenizer", "video_vae"):
        if (recipe.runs / name).exists():
            (tmp_path / name).symlink_to(recipe.runs / name)
    stage = ExpertStage(budget=Budget(steps=1), batch=1)
    changed = replace(
        recipe,
        runs=tmp_path,
        architecture=replace(recipe.architecture, video_channels=(128, 32, 32), audio_channels=(64, 16, 16)),
        suggestions=Suggestions(steps=1, batch=2, held_out=2),
        train=stage,
        videos=VideoStage(budget=Budget(steps=1), batch=1),
    )
    with pytest.raises(InputError, match="no state of joint.run, videos.run, sounds.run"):
        load(changed)
    train(changed)
    trained, _ = load(changed, before="videos.run")
    gate = trained.joint_blocks.blocks[0].video.modulation.bias[-128:]
    torch.testing.assert_close(gate, torch.full((128,), changed.experts.open_gate), atol=0.01, rtol=0)
    train_videos(changed)
    further, _ = load(changed)
    assert not torch.equal(trained.video_unet.conv_out.weight, further.video_unet.conv_out.weight)
    assert torch.equal(trained.audio_unet.conv_out.weight, further.audio_unet.conv_out.weight)
    one, other = (model.joint_blocks.blocks[0].audio.to_q.weight for model in (trained, further))
    assert torch.equal(one, other)


def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(make_objective, tmp_path):
    stage = Stage(budget=Budget(steps=3), rate=1e-3, log_every=1, save_seconds=0)

    def run(name: str, *stops: int) -> dict[str, torch.Tensor]:
        for stop in stops:
            objective = make_objective()
            average = copy.deepcopy(objective.model)
            # The schedule must know the whole length, so the stop is a crash.
            loss, calls = objective.loss, iter(range(10))

            def crash(generator, progress, loss=loss, calls=calls, stop=stop, first=stop != stops[-1]):
                if first and next(calls) == stop:
                    raise KeyboardInterrupt
                return loss(generator, progress)

            objective.loss = crash
            try:
                fit(objective, tmp_path / name, stage, average=average)
            except KeyboardInterrupt:
                continue
        return average.state_dict()

    whole, resumed = run("whole", 3), run("resumed", 2, 3)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    logs = [[json.loads(line)["loss"] for line in open(tmp_path / name / "log.jsonl")] for name in ("whole", "resumed")]
    assert logs[0] == logs[1] and len(logs[0]) == 3


def test_bfloat16_gives_nearly_the_same_losses_and_keeps_weights_whole(make_objective, tmp_path):
    stage = Stage(budget=Budget(steps=2), rate=1e-4, log_every=1)
    losses = []
    for bfloat16 in (False, True):
        objective = make_objective()
        fit(objective, tmp_path / str(bfloat16), stage, bfloat16=bfloat16)
        log = (tmp_path / str(bfloat16) / "log.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in log])
        assert {parameter.dtype for parameter in objective.model.parameters()} == {torch.float32}
    assert losses[0] != losses[1], "the precision must have been used"
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_the_log_has_scores_of_held_out_scenes(make_objective, tmp_path):
    stage = Stage(budget=Budget(steps=1), rate=1e-4, log_every=1, evaluate_every=1)
    fit(make_objective(), tmp_path, stage)
    record = json.loads((tmp_path / "log.jsonl").read_text())
    assert {"video_joint", "video_isolated", "audio_joint", "audio_isolated"} < record.keys()
    assert record["video_joint"] > 0 and record["audio_joint"] > 0


def test_joint_blocks_start_open_and_look_at_their_own_time():
    torch.manual_seed(0)
    blocks = TinyModel(Architecture(), 600, 64, 8, 20).joint_blocks
    open_at_own_time(blocks, 0.5)
    block, branch = blocks.blocks[0], blocks.blocks[0].video
    x = torch.zeros(1, 20, branch.width)  # content says nothing: what is left is the clock
    rotary = block.rotary(video_positions(torch.tensor([12.5]), 20, 1, 1, 0))
    scores = branch.query(x, rotary) @ branch.key_value(x, rotary).key.mT
    assert torch.equal(scores.argmax(-1), torch.arange(20).expand(scores.shape[:-1]))
    assert branch.modulation.bias[-branch.channels :].eq(0.5).all()


def test_two_processes_move_as_one_by_the_mean_of_their_gradients(tmp_path):
    """Each draws samples of its own; the state that the first keeps is that of the mean."""
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from jointdit.recipes.tiny.training_loop import Budget, Stage, fit\n"
        "class Objective:\n"
        "    model = torch.nn.Linear(3, 1, bias=False)\n"
        "    def loss(self, generator, progress):\n"
        "        return self.model(torch.randn(1, 3, generator=generator)).sum()\n"
        "torch.nn.init.ones_(Objective.model.weight)\n"
        "fit(Objective(), Path(sys.argv[1]), Stage(budget=Budget(steps=2), rate=1e-2, log_every=1))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script, tmp_path]
    subprocess.run(launch, check=True, env=environment, capture_output=True)
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        moments = file.get_tensor("optimizer.0.exp_avg")
    samples = [
        torch.stack([torch.randn(1, 3, generator=step_generator(0, step, process)) for process in (0, 1)]).mean(0)
        for step in (0, 1)
    ]
    clipped = [sample / max(1.0, sample.norm().item()) for sample in samples]
    torch.testing.assert_close(moments, 0.9 * 0.1 * clipped[0] + 0.1 * clipped[1], rtol=1e-4, atol=1e-6)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2, "the first process alone writes"


def test_a_new_video_expert_starts_at_the_still_picture_beside_the_model_it_starts_from(tmp_path, tiny):
    """It joins the audio expert and the encoders of the bundled model, is trained and exported."""
    pytest.importorskip("skimage", reason="the photos of jointdit[train] are not installed")
    for name in ("video_vae", "audio_vae", "vocoder"):
        (tmp_path / name).symlink_to(tiny / name)
    once = {"budget": Budget(steps=1), "batch": 1, "seed": 3}
    recipe = TinyRecipe(
        runs=tmp_path,
        start=tiny,
        output=tmp_path / "model",
        cache=Cache(clips=6, seed=3, sounds_per_clip=1),
        experts=Experts(held_out=2),
        architecture=Architecture(video_channels=(64, 64, 64)),
        videos=VideoStage(**once, rate=0.0),
        sounds=SoundStage(**once, painted=1.0),
    )
    for command in (write_cache, train_videos, train_sounds, export):
        command(recipe)
    old, new = (JointDiTPipeline.from_pretrained(folder) for folder in (tiny, tmp_path / "model"))
    check_milestone(recipe)
    assert new.defaults == old.defaults and new.defaults.around_picture
    assert new.video_unet.config.block_out_channels != old.video_unet.config.block_out_channels
    one, other = (pipe.joint_blocks.blocks[1].audio.to_q.weight for pipe in (old, new))
    torch.testing.assert_close(one, other, atol=2e-3, rtol=0)
    photo = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    clip = new(photo, sigmas=[200.0, 0.0], generator=torch.Generator().manual_seed(0))
    moved = np.abs(np.diff(clip.frames.astype(float), axis=0)).mean()
    assert moved < 2, "noise of one step in 200 is left of a picture that stands still"


def check_milestone(recipe):
    """What the runs of a recipe learned can be kept in a small file, from which they go on."""
    recipe = replace(recipe, milestone=recipe.runs / "milestones" / "milestone.safetensors")
    save_milestone(recipe)
    elsewhere = replace(recipe, runs=recipe.runs / "elsewhere")
    elsewhere.runs.mkdir()
    load_milestone(elsewhere)
    (one, _), (other, _) = (load(each) for each in (recipe, elsewhere))
    for (name, ours), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert (ours - theirs).abs().max() <= ours.abs().max() / 200, name
    state, again = (each.runs / "sounds.run" / "state.safetensors" for each in (recipe, elsewhere))
    assert read_counters(state) == read_counters(again)
    assert recipe.milestone.stat().st_size < state.stat().st_size / 4
    with pytest.raises(InputError, match="there already"):
        load_milestone(elsewhere)
    with pytest.raises(InputError, match="of another model"):
        load_milestone(replace(elsewhere, runs=recipe.runs, architecture=Architecture()))
    for damaged in (recipe.milestone.read_bytes()[:1000], save({"weight": torch.zeros(1)})):
        recipe.milestone.write_bytes(damaged)
        with pytest.raises(InputError, match=r"milestone.safetensors: no milestone, or damaged"):
            load_milestone(replace(elsewhere, runs=recipe.runs / "another"))
