"""Stage B on common hardware: low-rank adapters, less memory, and an optimizer whose state several processes share."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tiny_models
import torch
from tiny_models import conditioning, inputs, joint_model

from jointdit import JointDiTPipeline, SamplingSettings
from jointdit.datasets.recordings import find_recordings
from jointdit.errors import InputError
from jointdit.latents import ClipShape
from jointdit.media import Clip
from jointdit.train.adapters import add_adapters
from jointdit.train.cache import LatentCache
from jointdit.train.engine import Engine
from jointdit.train.frozen import hold_frozen
from jointdit.train.precision import make_accelerator
from jointdit.train.stages import TEMPLATES, read_config
from jointdit.train.write_cache import write_cache

SHAPE = ClipShape(frames=4, fps=Fraction(25, 2), height=32, width=32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Twelve clips of noise with a tone."""
    videos, folder = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    for number in range(6):
        (videos / "noise").mkdir(exist_ok=True)
        pictures = rng.integers(0, 256, (9, 32, 32, 3)).astype(np.uint8)
        tone = 0.3 * np.sin(np.arange(11520) * (0.1 + 0.01 * number), dtype=np.float32)[None]
        Clip(pictures, SHAPE.fps, tone, 16000).save(videos / "noise" / f"{number}.mp4")
    write_cache(JointDiTPipeline.from_pretrained("tiny"), find_recordings(videos), folder, SHAPE)
    return LatentCache(folder)


def engine(output, cache, accelerator=None, **changes):
    values = {"cache": str(cache.folder), "output": str(output), "steps": 3, "batch": 4, "held_out": 2, "warmup": 1}
    values |= {"rate": 1e-3, "expert_rate": 1e-4, "adapter_rate": 1e-3, "precision": "float32", "log_every": 1}
    values |= {"save_every": 2, "validate_every": 100, "samples": 0, "tensorboard": False, "micro_batch": 4}
    made = read_config(TEMPLATES["b"], {name: json.dumps(value) for name, value in (values | changes).items()})
    return Engine(JointDiTPipeline.from_pretrained("tiny"), cache, made, accelerator or make_accelerator(cpu=True))


def losses(output):
    return {line["step"]: line["loss"] for line in map(json.loads, open(output / "log.jsonl")) if "loss" in line}


def copies(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def audio_latents(pipe):
    picture = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    shape, generator = pipe.shape(4, 12.5, 32, 32), torch.Generator().manual_seed(2)
    conditions = pipe.condition([picture], ["a bell"], [None], shape, generator)
    return pipe.sample(conditions, SamplingSettings(steps=2), generator=generator).audio


def test_adapters_change_nothing_at_their_start():
    model, (video, audio, c_noise, step) = joint_model(open_gates=True), inputs()
    with torch.no_grad():
        before = model(video, audio, c_noise, step, conditioning())
        add_adapters(model, 4, "to_q, to_k, to_v, to_out.0", seed=0)
        after = model(video, audio, c_noise, step, conditioning())
    assert torch.equal(before.video, after.video) and torch.equal(before.audio, after.audio)
    with pytest.raises(InputError, match="adapter_targets 'to_z': no linear layer of the video_unet"):
        add_adapters(joint_model(), 4, "to_q, to_z", seed=0)


def test_stage_b_with_adapters_trains_them_and_what_it_writes_is_the_trained_model(cache, tmp_path):
    run = engine(tmp_path / "run", cache, adapter_rank=2, adapter_rate=0.02)
    frozen = {name: value.clone() for name, value in run.pipe.model.named_parameters() if not value.requires_grad}
    assert {group["peak"] for group in run.optimizer.param_groups} == {"rate", "adapter_rate"}
    start = copies(run.trained)
    run.train()
    assert all(torch.equal(value, frozen[name]) for name, value in run.pipe.model.named_parameters() if name in frozen)
    moved = {name for name, tensor in run.trained.state_dict().items() if not torch.equal(tensor, start[name])}
    assert {name.split(".")[0] for name in moved} == {"joint_blocks", "video_unet", "audio_unet"}
    result = run.export().parent
    assert sorted(path.name for path in (result / "adapters").iterdir()) == ["audio.safetensors", "video.safetensors"]
    with run.averaged():
        trained = audio_latents(run.pipe)
    saved = {"joint": result / "joint_blocks.safetensors", "adapters": result / "adapters"}
    loaded = audio_latents(JointDiTPipeline.from_pretrained("tiny", **saved))
    torch.testing.assert_close(loaded, trained, atol=1e-4, rtol=1e-4)
    without = audio_latents(JointDiTPipeline.from_pretrained("tiny", joint=saved["joint"]))
    assert (without - trained).abs().max() > 0.01

    again = engine(tmp_path / "run", cache, adapter_rank=2, adapter_rate=0.02, steps=4)
    assert again.step == 3
    assert all(
        torch.equal(tensor, again.trained.state_dict()[name]) for name, tensor in run.trained.state_dict().items()
    )


def test_a_missing_package_is_named(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match="adamw8bit.*pip install bitsandbytes"):
        engine(tmp_path, cache, optimizer="adamw8bit")
    monkeypatch.delitem(sys.modules, "jointdit.train.adapters")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="adapter_rank.*pip install peft"):
        importlib.import_module("jointdit.train.adapters")


def test_frozen_weights_in_the_training_precision_give_the_same_bits():
    found = []
    for held in (False, True):
        model, (video, audio, c_noise, step) = joint_model(open_gates=True), inputs()
        model.requires_grad_(False)
        if held:
            hold_frozen(model.video_unet, torch.bfloat16)
            assert model.video_unet.conv_in.weight.dtype == torch.bfloat16
        model.joint_blocks.load_state_dict(joint_model(open_gates=True).joint_blocks.state_dict())
        model.joint_blocks.requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16):
            out = model(video, audio, c_noise, step, conditioning())
        (out.video.float().square().mean() + out.audio.float().square().mean()).backward()
        gradients = [parameter.grad for parameter in model.joint_blocks.parameters() if parameter.grad is not None]
        found.append([out.video, out.audio, *gradients])
    assert len(found[0]) > 20 and all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_an_average_in_the_hosts_memory_is_the_same(cache, tmp_path):
    averages = []
    for on_host in (False, True):
        run = engine(tmp_path / str(on_host), cache, average_on_host=on_host)
        run.train()
        averages.append(run.average.state_dict())
    assert all(torch.equal(tensor, averages[1][name]) for name, tensor in averages[0].items())


def test_chunks_of_queries_change_no_gradient():
    """In double precision; pooling is an approximation, and learns."""

    def gradients(**levers):
        model, (video, audio, c_noise, step) = joint_model(open_gates=True).double(), inputs()
        model.joint_blocks.set_memory(**levers)
        cond = replace(
            conditioning(),
            **{name: value.double() for name, value in vars(conditioning()).items() if value.is_floating_point()},
        )
        out = model(video.double(), audio.double(), c_noise.double(), step, cond, torch.tensor([False, True]))
        (out.video.square().mean() + out.audio.square().mean()).backward()
        return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}

    plain, chunked, pooled = gradients(), gradients(query_chunk=7), gradients(video_pool=2)
    for name, gradient in plain.items():
        torch.testing.assert_close(chunked[name], gradient, atol=1e-12, rtol=1e-6)
    assert plain.keys() == pooled.keys() and any(not torch.equal(pooled[name], plain[name]) for name in plain)


def test_the_optimizer_in_eight_bits_learns_and_goes_on_where_it_was(cache, tmp_path):
    engine(tmp_path / "plain", cache, adapter_rank=2, steps=4).train()
    whole = engine(tmp_path / "whole", cache, adapter_rank=2, steps=4, optimizer="adamw8bit")
    whole.train()
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "plain"), rel=0.05)
    moments = [state["state1"].dtype for state in whole.optimizer.state.values()]
    assert torch.uint8 in moments
    broken = engine(tmp_path / "broken", cache, adapter_rank=2, steps=4, optimizer="adamw8bit")
    broken.report = lambda step, steps, loss: (_ for _ in ()).throw(KeyboardInterrupt) if step == 2 else None
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    again = engine(tmp_path / "broken", cache, adapter_rank=2, steps=4, optimizer="adamw8bit")
    assert again.step == 2
    again.train()
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


TWO = """
import sys
sys.path[:0] = [{tests!r}, {support!r}]
from pathlib import Path
import torch
torch.set_num_threads({threads})
from jointdit.train.precision import make_accelerator
from jointdit.train.cache import LatentCache
from test_scale import engine

accelerator = make_accelerator(cpu=True)
assert accelerator.num_processes == 2
run = engine(Path({output!r}), LatentCache(Path({cache!r})), accelerator, **{changes!r})
own = getattr(run.optimizer.optimizer, "optim", run.optimizer.optimizer).param_groups
share = sum(each.numel() for group in own for each in group["params"])
Path({folder!r}, f"share{{accelerator.process_index}}").write_text(str(share))


def report(step, steps, loss):
    if step == {stop}:
        raise SystemExit


run.report = report
run.train()
"""


def two_processes(folder, output, cache, stop=None, **changes):
    """A run by two processes with a gloo group; the numbers of parameters whose state each keeps.

    stop: the step after which it is stopped.
    """
    script = folder / "two.py"
    tests, support = os.path.dirname(__file__), os.path.dirname(tiny_models.__file__)
    values = {
        "tests": tests,
        "support": support,
        "threads": torch.get_num_threads(),
        "output": str(output),
        "folder": str(folder),
    }
    script.write_text(TWO.format(**values, cache=str(cache.folder), changes=changes, stop=stop))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--standalone",
        str(script),
    ]
    done = subprocess.run(command, env=os.environ | {"ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(path.read_text()) for path in folder.glob("share*")]


def test_two_processes_share_the_optimizers_state_and_one_goes_on_with_it(cache, tmp_path):
    options = {"steps": 4, "micro_batch": 2, "shard_optimizer": True}
    alone = engine(tmp_path / "one", cache, **options)
    alone.train()
    shares = two_processes(tmp_path, tmp_path / "two", cache, **options)
    learned = sum(parameter.numel() for parameter in alone.trained.parameters())
    assert len(shares) == 2 and sum(shares) == learned and max(shares) < 0.6 * learned
    two_processes(tmp_path, tmp_path / "whole", cache, **options | {"shard_optimizer": False})
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert two == losses(tmp_path / "whole"), "whoever keeps the moments, the numbers are the same"
    assert two == pytest.approx(one, rel=1e-3)

    two_processes(tmp_path, tmp_path / "broken", cache, stop=2, **options)
    shutil.copytree(tmp_path / "broken", tmp_path / "alone")
    two_processes(tmp_path, tmp_path / "broken", cache, **options)
    assert losses(tmp_path / "broken") == two, "it goes on with the numbers that it would have had"
    last = engine(tmp_path / "alone", cache, **options)
    assert last.step == 2, "a state that two wrote is read by one"
    last.train()
    assert losses(tmp_path / "alone") == pytest.approx(two, rel=1e-3)
