"""Training on folders of sounding videos: what is read and cached, what a killed run leaves, what many processes do."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from sounding_videos import video
from tiny_models import conditioning, joint_model, write_experts
from tiny_models import joint_blocks as tiny_joint_blocks

from jointdit import JointDiTPipeline
from jointdit.checkpoints.joint_files import load_joint_blocks, save_joint_blocks
from jointdit.cli import main
from jointdit.datasets.recordings import cut, find_recordings
from jointdit.errors import InputError
from jointdit.latents import ClipShape
from jointdit.media import read_clip
from jointdit.train import checkpoint, memory
from jointdit.train.cache import LatentCache
from jointdit.train.engine import Engine, hold_out
from jointdit.train.memory import Plan, plan
from jointdit.train.optimizers import bytes_to_come
from jointdit.train.precision import make_accelerator
from jointdit.train.stages import TEMPLATES, read_config
from jointdit.train.write_cache import write_cache

SHAPE = ClipShape(frames=4, fps=Fraction(25, 2), height=32, width=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for index in range(3):
        video(folder / "dog_barking" / f"{index}.mp4")
    video(folder / "rain" / "a.mp4")
    (folder / "rain" / "a.txt").write_text("rain on  a roof\n")
    video(folder / "rain" / "silent.mp4", sound="silence")
    video(folder / "rain" / "mute.mp4", sound="none")
    video(folder / "rain" / "short.mp4", seconds=0.2)
    (folder / "rain" / "broken.mp4").write_bytes(b"not a video")
    return folder


@pytest.fixture(scope="module")
def pipe():
    return JointDiTPipeline.from_pretrained("tiny")


@pytest.fixture(scope="module")
def cache(folder, pipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache")
    write_cache(pipe, find_recordings(folder), path, SHAPE)
    return LatentCache(path)


def config(tmp_path, cache, **changes):
    values = {
        "cache": str(cache.folder),
        "output": str(tmp_path / "run"),
        "steps": 4,
        "batch": 2,
        "held_out": 2,
        "warmup": 1,
        "rate": 1e-3,
        "precision": "float32",
        "log_every": 1,
        "save_every": 2,
        "validate_every": 100,
        "samples": 0,
        "tensorboard": False,
    } | changes
    return read_config(TEMPLATES["a"], {name: json.dumps(value) for name, value in values.items()})


def engine(tmp_path, cache, report=None, accelerator=None, **changes):
    made = config(tmp_path, cache, **changes)
    pipe = JointDiTPipeline.from_pretrained("tiny")
    return Engine(pipe, cache, made, accelerator or make_accelerator(cpu=True), report)


def test_a_class_folder_is_the_caption_unless_a_text_speaks_for_the_video(folder):
    captions = {recording.name: recording.caption for recording in find_recordings(folder)}
    assert captions["dog_barking/0.mp4"] == "dog barking" and captions["rain/a.mp4"] == "rain on a roof"
    with pytest.raises(InputError, match="layout 'wrong'.*vggsound"):
        find_recordings(folder, "wrong")


def captions(folder, layout):
    return {each.name: each.caption or each.problem for each in find_recordings(folder, layout)}


def test_the_tables_of_the_usual_sets_are_read_and_what_they_lack_is_named(tmp_path):
    for name in ("abc_000012.mp4", "2015-02_denoised.mp4", "made.mp4", "wrong.mp4"):
        (tmp_path / name).touch()
    rows = 'abc,12,"dog barking, loud",train\nxyz,one,rain,test\nbroken"row\n\n'
    (tmp_path / "vggsound.csv").write_text(rows)
    hits = "1.0 rock hit static\n2.0 rock hit static\n3.0 None scratch static\n4.0 leaf scratch static\n"
    (tmp_path / "2015-02_times.txt").write_text(hits)
    (tmp_path / "made.json").write_text('{"caption": "a bell"}')
    (tmp_path / "wrong.json").write_text("[")
    (tmp_path / "captions.csv").write_bytes(b"file,caption\nmade.mp4,caf\xe9 noise\nwrong.mp4\n" + b'"' * 200_000)
    assert captions(tmp_path, "vggsound") == {
        "abc_000012.mp4": "dog barking, loud",
        **dict.fromkeys(("2015-02_denoised.mp4", "made.mp4", "wrong.mp4"), "not in vggsound.csv"),
    }
    assert captions(tmp_path, "greatest-hits")["2015-02_denoised.mp4"] == "a drumstick, hit rock"
    assert captions(tmp_path, "greatest-hits")["made.mp4"] == "no known hit in made_times.txt"
    found = captions(tmp_path, "synth")
    assert found["made.mp4"] == "a bell" and found["wrong.mp4"] == "no caption in wrong.json"
    found = captions(tmp_path, "csv")
    assert found["made.mp4"] == "caf\ufffd noise" and found["wrong.mp4"] == "no caption in captions.csv"
    unnamed = next(each for each in find_recordings(tmp_path, "vggsound") if each.name == "made.mp4")
    with pytest.raises(InputError, match="made.mp4: not in vggsound.csv"):
        next(cut(unnamed, SHAPE, 16000))
    (tmp_path / "vggsound.csv").unlink()
    with pytest.raises(InputError, match="table is missing"):
        find_recordings(tmp_path, "vggsound")


def test_clips_follow_each_other_with_their_sound(folder):
    recording = find_recordings(folder)[0]
    clips = list(cut(recording, SHAPE, 16000))
    assert [clip.name for clip in clips] == ["dog_barking/0.mp4#0", "dog_barking/0.mp4#1"]
    assert all(clip.frames.shape == (4, 32, 32, 3) and clip.audio.shape == (5120,) for clip in clips)


def test_files_without_use_are_named_with_their_reason_and_the_rest_is_cached(folder, pipe, cache, tmp_path):
    written = write_cache(pipe, find_recordings(folder), tmp_path / "other", SHAPE)
    reasons = {name.split("/")[1]: reason for name, reason in written.skipped.items()}
    assert sorted(reasons) == ["broken.mp4", "mute.mp4", "short.mp4", "silent.mp4"]
    assert "no sound" in reasons["mute.mp4"] and "silent" in reasons["silent.mp4"] and "0.32 s" in reasons["short.mp4"]
    assert written.clips == len(cache) == 8
    clips = cache.batch([0, 7])
    assert clips.video.shape[:2] == (2, 4) and cache.captions[7] == "rain on a roof"
    with torch.no_grad():
        text = pipe.encode_text(["rain on a roof"])
    torch.testing.assert_close(clips.text.audio_embeds[1:], text.audio_embeds, atol=2e-3, rtol=2e-3)
    assert not torch.equal(clips.text.audio_embeds[1], clips.no_text.audio_embeds[1])


def test_a_cache_goes_on_after_a_kill_and_parts_add_up(folder, pipe, cache, tmp_path):
    recordings = find_recordings(folder)

    class Kill(BaseException):
        pass

    def stop(done, total):
        if done == 3:
            raise Kill

    with pytest.raises(Kill):
        write_cache(pipe, recordings, tmp_path, SHAPE, shard_bytes=1, progress=stop)
    there = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    assert there
    write_cache(pipe, recordings, tmp_path, SHAPE, shard_bytes=1)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in there} == there, "finished shards are kept"
    assert LatentCache(tmp_path).names == cache.names
    parted = tmp_path / "parted"
    for part in range(2):
        write_cache(pipe, recordings, parted, SHAPE, part, 2)
    assert sorted(LatentCache(parted).names) == sorted(cache.names)


def test_another_configuration_is_refused(folder, pipe, cache):
    other = ClipShape(frames=5, fps=SHAPE.fps, height=32, width=32)
    with pytest.raises(InputError, match="frames 4 -> 5"):
        write_cache(pipe, find_recordings(folder), cache.folder, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": '"red"'}, "unknown option 'colour'"),
        ({"steps": '"many"'}, "steps is 'many', but must be a whole number from 1"),
        ({"rate": "0.0"}, "rate is 0.0, but must be above 0"),
        ({"stage": "c"}, "stage is 'c', but must be one of a, b"),
        ({"samples": "1"}, "samples is 1, but must be 0, or at least 2"),
        ({"held_out": "1"}, "held_out is 1, but must be at least 2 where clips are sampled"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        read_config(TEMPLATES["b"], changes)


def losses(tmp_path):
    return [(line["step"], line["loss"], line["gradient_norm"]) for line in log(tmp_path) if "loss" in line]


def log(tmp_path):
    return logged(tmp_path / "run")


def logged(output):
    return [json.loads(line) for line in open(output / "log.jsonl")]


def test_a_killed_run_goes_on_with_the_numbers_of_an_undisturbed_one(cache, tmp_path):
    engine(tmp_path / "whole", cache).train()

    script = f"""
import os, signal, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(tiny_models.__file__).parent)!r}]
from pathlib import Path
import torch
torch.set_num_threads({torch.get_num_threads()})  # sums are rounded by thread
from jointdit.train.cache import LatentCache
from test_train import engine

def kill(step, steps, loss):
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

engine(Path({str(tmp_path / "broken")!r}), LatentCache(Path({str(cache.folder)!r})), kill).train()
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=600).returncode == -signal.SIGKILL
    again = engine(tmp_path / "broken", cache)
    assert again.step == 2, "the last whole checkpoint"
    again.train()
    undisturbed, resumed = losses(tmp_path / "whole"), losses(tmp_path / "broken")
    assert dict((line[0], line) for line in resumed) == dict((line[0], line) for line in undisturbed)


def test_the_gradient_scale_of_float16_goes_on_after_an_interruption(cache, tmp_path):
    """accelerate scales on GPUs alone; the same scaler, doubling at every step, shows on a CPU what is kept."""

    def scaled(path, report=None):
        accelerator = make_accelerator(cpu=True)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1)
        return engine(path, cache, report, accelerator)

    def interrupt(step, steps, loss):
        if step == 2:
            raise KeyboardInterrupt

    whole = scaled(tmp_path / "whole")
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        scaled(tmp_path / "broken", interrupt).train()
    again = scaled(tmp_path / "broken")
    assert (again.step, again.accelerator.scaler.get_scale()) == (2, 2.0**12)
    again.train()
    assert again.accelerator.scaler.state_dict() == whole.accelerator.scaler.state_dict()
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


def test_no_state_is_written_twice(cache, tmp_path, monkeypatch):
    written = []

    def save_state(path, module, optimizer, counters, average=None):
        written.append(counters["step"])
        checkpoint.save_state(path, module, optimizer, counters, average)

    def interrupt(step, steps, loss):
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("jointdit.train.engine.save_state", save_state)
    with pytest.raises(KeyboardInterrupt):
        engine(tmp_path, cache, interrupt).train()
    engine(tmp_path, cache).train()
    engine(tmp_path, cache).train()
    assert written == [2, 4]


def test_a_validation_samples_held_out_conditions_and_tensorboard_shows_them(cache, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    asked = {"steps": 2, "validate_every": 2, "held_out": 3, "samples": 2, "tensorboard": True}
    run = engine(tmp_path, cache, **asked)
    run.pipe.defaults = replace(run.pipe.defaults, steps=1)
    state = run.objective.draw(cache.batch([0]), [0], 7)
    run.train()
    assert torch.equal(run.objective.draw(cache.batch([0]), [0], 7).noise.video, state.noise.video)
    (record,) = [line for line in log(tmp_path) if "held_out" in line]
    assert record["step"] == 2 and record["held_out"]["video"] > 0 and record["held_out"]["audio"] > 0
    levels = [name for name in record["held_out"] if name.startswith("video_")]
    assert levels and set(levels) <= {f"video_{level / 5:.1f}" for level in range(5)}
    scores = record["samples"]
    assert scores["onset_align_low"] <= scores["onset_align"] <= scores["onset_align_high"]
    clips = [read_clip(path) for path in sorted((tmp_path / "run" / "samples" / "0000002").glob("*.mp4"))]
    assert [clip.frames.shape for clip in clips] == [(4, 32, 32, 3)] * 2
    first = run.cache.batch(run.held_out[:1]).image_latents
    given = run.pipe.decode_video(first[None] * run.pipe.video_vae.config.scaling_factor)[0, 0].astype(float)
    own, other = (np.abs(clip.frames[0] - given).mean() for clip in clips)
    assert own < other, "each sample begins with its own picture"

    shown = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    scalars, images = shown.Tags()["scalars"], shown.Tags()["images"]
    assert {"train/loss", "train/gradient_norm", "train/rate", "samples/onset_align", "held_out/audio"} <= set(scalars)
    assert {f"held_out/{name}" for name in levels} <= set(scalars) and images == ["000/plot", "001/plot"]
    assert [event.step for event in shown.Scalars("train/loss")] == [1, 2]
    assert shown.Audio("000/sound")[0].sample_rate == 16000


@pytest.mark.parametrize("package", ["tensorboard", "scipy"])
def test_what_watching_lacks_is_said_at_the_start(cache, tmp_path, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith(("jointdit.evaluate", "jointdit.train.board"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"lacks.*-m pip install {package}|-m pip install {package}"):
        engine(tmp_path, cache, samples=2, tensorboard=True)
    assert engine(tmp_path, cache).step == 0, "neither is needed where it is not asked for"


@pytest.mark.parametrize(("asked", "held"), [(1, 3), (3, 3), (4, 6), (6, 6), (15, 15)])
def test_whole_recordings_are_held_out_whatever_their_order(asked, held):
    names = [f"{recording}#{clip}" for recording in ("a.mp4", "b#1.mp4", "c", "d", "e", "f") for clip in range(3)]
    held_out, clips = hold_out(names, asked)
    assert len(held_out) == held and sorted(held_out + clips) == list(range(18))
    recordings = [{names[number].rpartition("#")[0] for number in numbers} for numbers in (held_out, clips)]
    assert not recordings[0] & recordings[1]
    again, _ = hold_out(names[::-1], asked)
    assert {names[::-1][number] for number in again} == {names[number] for number in held_out}


def test_nothing_left_to_train_on_is_refused_with_the_numbers():
    names = [f"{recording}.mp4#{clip}" for recording in "ab" for clip in range(5)]
    assert len(hold_out(names, 5)[1]) == 5
    for asked in (6, 20):
        with pytest.raises(InputError, match=f"held_out is {asked}.*10 clips of 2 recording"):
            hold_out(names, asked)
    with pytest.raises(InputError, match="5 clips of 1 recording"):
        hold_out(names[:5], 1)


def test_memory_is_planned_for_the_fewest_parts_that_fit():
    gib = 2**30
    assert plan(100 * gib, 10 * gib, 2 * gib, clips=16) == Plan(8, False), "nine would fit, eight and eight are even"
    assert plan(100 * gib, 1 * gib, 2 * gib, clips=16) == Plan(16, False)
    assert plan(20 * gib, 30 * gib, 4 * gib, clips=16) == Plan(4, True)
    assert plan(20 * gib, math.inf, 4 * gib, clips=1) == Plan(1, True)
    with pytest.raises(InputError, match="does not fit into the 2.0 GiB"):
        plan(2 * gib, math.inf, 3 * gib, clips=4)


def test_settings_follow_the_memory_that_is_there_unless_they_are_fixed(cache, tmp_path, monkeypatch):
    """A device of 8 clips' room, or 4 with activations kept: what is measured is what training does with a clip."""
    runs = []

    def peak(device, run):
        run()
        runs.append(True)
        return 2.0 if len(runs) % 2 else 4.0

    plain = engine(tmp_path / "plain", cache, memory="fixed", batch=6, micro_batch=3, steps=1)
    moments = bytes_to_come(plain.optimizer.optimizer)
    assert moments == 8 * sum(parameter.numel() for parameter in plain.trained.parameters())
    plain.train()
    assert bytes_to_come(plain.optimizer.optimizer) == 0, "now they are there"

    monkeypatch.setattr(memory, "measurable", lambda device: True)
    monkeypatch.setattr(memory, "free_bytes", lambda device: moments + 18)
    monkeypatch.setattr(memory, "peak_bytes", peak)
    fixed = engine(tmp_path / "fixed", cache, memory="fixed", batch=6, micro_batch=1, gradient_checkpointing=True)
    assert (fixed.micro_batch, fixed.pipe.model.gradient_checkpointing, runs) == (1, True, [])
    fitted = engine(tmp_path / "fitted", cache, batch=6, micro_batch=1, gradient_checkpointing=True, steps=1)
    assert (fitted.micro_batch, fitted.pipe.model.gradient_checkpointing, len(runs)) == (3, False, 2)
    assert all(parameter.grad is None for parameter in fitted.trained.parameters())
    fitted.train()
    assert losses(tmp_path / "fitted") == losses(tmp_path / "plain"), "measuring must leave training as it is"


def test_gradient_checkpointing_holds_with_the_masks_of_audioldm2():
    """Real AudioLDM2 and Stable Video Diffusion classes, a text with padding, one sample isolated."""
    generator = torch.Generator().manual_seed(0)
    video, audio = torch.randn(2, 3, 8, 8, 8, generator=generator), torch.randn(2, 4, 12, 16, generator=generator)
    cond, isolated = conditioning(2), torch.tensor([False, True])
    assert cond.audio_mask_1.min() == 0
    gradients = []
    for checkpointing in (False, True):
        model = joint_model(open_gates=True).train()
        model.gradient_checkpointing = checkpointing
        found = model(video, audio, torch.tensor([0.1, -0.2]), torch.tensor([600.0, 10.0]), cond, isolated)
        (found.video.square().mean() + found.audio.square().mean()).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)
    learned = [name for name, gradient in gradients[1].items() if gradient is not None and gradient.abs().max() > 0]
    assert any("audio_unet" in name for name in learned) and any("joint_blocks" in name for name in learned)


def test_only_the_joint_blocks_learn_in_stage_a_and_their_file_loads_again(cache, tmp_path):
    run = engine(tmp_path, cache)
    before = {name: tensor.clone() for name, tensor in run.pipe.model.state_dict().items()}
    run.train()
    changed = {name for name, tensor in run.pipe.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith("joint_blocks.") for name in changed)
    path = run.export()
    loaded = load_joint_blocks(path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in run.average.state_dict().items())


def test_experts_learn_at_their_own_rate_in_stage_b(cache, tmp_path):
    run = engine(tmp_path, cache, stage="b", rate=1e-3, expert_rate=1e-6, steps=1, log_every=1)
    before = {name: tensor.clone() for name, tensor in run.pipe.model.state_dict().items()}
    run.train()
    moved = {name: (tensor - before[name]).abs().max().item() for name, tensor in run.pipe.model.state_dict().items()}
    assert 0 < max(moved[name] for name in moved if "unet" in name) < 2e-6
    assert max(moved[name] for name in moved if "joint_blocks" in name) > 1e-4


def doubled(thing):
    """Nested dataclasses with their floating tensors in double precision."""
    if isinstance(thing, torch.Tensor):
        return thing.double() if thing.is_floating_point() else thing
    return replace(thing, **{name: doubled(value) for name, value in vars(thing).items()})


def test_micro_batches_and_checkpointing_change_no_gradient(cache, tmp_path):
    """In double precision: in single, sums of other batches round by up to 4e-4 of the gradients."""

    def gradients(name, **changes):
        run = engine(tmp_path / name, cache, batch=4, stage="b", **changes)
        run.model.double().train()
        forward = run.objective.forward
        run.objective.forward = lambda clips, draws: forward(doubled(clips), draws)
        run._backward(run.numbers(0))
        return {name: parameter.grad for name, parameter in run.trained.named_parameters()}

    whole = gradients("whole", micro_batch=4)
    parts = gradients("parts", micro_batch=1, gradient_checkpointing=True)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-9, rtol=1e-6)


def test_the_commands_lead_from_scenes_to_joint_blocks_and_two_processes_equal_one(tmp_path, capsys):
    small = ["--frames", "6", "--size", "32x32", "--fps", "12.5"]
    assert main(["synth", str(tmp_path / "clips"), "--clips", "8", "--quiet", *small]) == 0
    assert (
        main(["cache", str(tmp_path / "clips"), str(tmp_path / "cache"), "--layout", "synth", "--quiet", *small]) == 0
    )
    options = {"cache": tmp_path / "cache", "steps": 2, "batch": 4, "held_out": 2, "precision": "float32"}
    options |= {"warmup": 1, "rate": 1e-3, "isolated": 0.5, "validate_every": 2, "samples": 2, "log_every": 1}
    command = ["train", "a", "--quiet"]
    for name, value in options.items():
        command += ["--set", f"{name}={value}"]
    assert main([*command, "--set", f"output={tmp_path / 'one'}"]) == 0
    assert "2 steps" in capsys.readouterr().out
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "jointdit"]
    launch += [*command, "--set", f"output={tmp_path / 'two'}"]
    threads = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums are rounded by thread
    done = subprocess.run(launch, env=threads, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 steps, 2 processes") == 1, "a launcher may start two that know nothing of each other"
    # Not weight by weight: Adam's first steps have the sign of gradients that are zero but for rounding.
    one, two = ([line for line in logged(tmp_path / name) if "loss" in line] for name in ("one", "two"))
    assert [line["step"] for line in one] == [1, 2]
    for name in ("loss", "video", "audio", "substeps", "given_video", "gradient_norm"):
        near = 0.02 if name == "gradient_norm" else 1e-4  # in single precision, as above
        assert [line[name] for line in two] == pytest.approx([line[name] for line in one], rel=near), name
    validations = [json.loads(open(tmp_path / name / "log.jsonl").readlines()[-1]) for name in ("one", "two")]
    assert validations[0]["samples"] == pytest.approx(validations[1]["samples"], abs=0.05, nan_ok=True)
    assert validations[0]["held_out"] == pytest.approx(validations[1]["held_out"], rel=1e-3)
    untrained = JointDiTPipeline.from_pretrained("tiny", joint="identity").joint_blocks.state_dict()
    blocks = load_joint_blocks(tmp_path / "one" / "joint_blocks.safetensors").state_dict()
    assert max((blocks[name] - untrained[name]).abs().max() for name in blocks) > 1e-4

    made, trained = tmp_path / "clip.mp4", tmp_path / "one" / "joint_blocks.safetensors"
    command = ["generate", "-o", str(made), "--steps", "1", "--seed", "1", "--quiet", *small]
    assert main([*command, "--joint", str(trained)]) == 0
    assert read_clip(made).frames.shape == (6, 32, 32, 3)
    pipe = JointDiTPipeline.from_pretrained("tiny", joint=trained)
    assert all(torch.equal(tensor, blocks[name]) for name, tensor in pipe.joint_blocks.state_dict().items())


def test_joint_blocks_are_trained_between_two_experts_and_load_again(folder, tmp_path, capsys):
    video, audio = map(str, write_experts(tmp_path))
    made = ["cache", str(folder), str(tmp_path / "cache"), "--video-expert", video, "--quiet"]
    made += ["--frames", "4", "--size", "32x32", "--fps", "12.5"]
    assert main(made) == 2 and "--audio-expert" in capsys.readouterr().err
    assert main([*made, "--audio-expert", audio]) == 0
    options = {"cache": tmp_path / "cache", "output": tmp_path / "run", "video_expert": video, "audio_expert": audio}
    options |= {"steps": 2, "batch": 2, "held_out": 2, "warmup": 1, "rate": 1e-2, "samples": 0, "tensorboard": "false"}
    options |= {"precision": "float32", "gradient_checkpointing": "true"}
    assert main(["train", "a", "--quiet", *[f"--set={name}={value}" for name, value in options.items()]]) == 0
    untrained = JointDiTPipeline.from_experts(video, audio).joint_blocks.state_dict()
    trained = JointDiTPipeline.from_experts(video, audio, tmp_path / "run" / "joint_blocks.safetensors").joint_blocks
    gates = [name for name in untrained if "modulation" in name]
    assert gates and max(trained.state_dict()[name].abs().max() for name in gates) > 1e-3
    assert main(["train", "a", "--set", f"video_expert={video}"]) == 2
    assert "audio_expert is '', but must be given" in capsys.readouterr().err


def test_joint_blocks_of_another_model_are_refused(tmp_path):
    save_joint_blocks(tiny_joint_blocks(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="made for another model: stages is"):
        JointDiTPipeline.from_pretrained("tiny", joint=tmp_path / "other.safetensors")
