"""The folder of a run: what it may be resumed with, who writes in it, its log, and what can be used while it trains."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from sounding_videos import video

from jointdit import JointDiTPipeline
from jointdit.checkpoints.joint_files import load_joint_blocks
from jointdit.cli import main
from jointdit.datasets.recordings import find_recordings
from jointdit.errors import InputError
from jointdit.train.cache import LatentCache
from jointdit.train.checkpoint import read_counters
from jointdit.train.engine import Engine
from jointdit.train.precision import choose_precision, make_accelerator
from jointdit.train.run import train_stage
from jointdit.train.run_folder import locked
from jointdit.train.schedule import learning_rate
from jointdit.train.stages import TEMPLATES, TrainingConfig, read_config
from jointdit.train.write_cache import write_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> LatentCache:
    videos, folder = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("cache")
    for index in range(4):
        video(videos / "dog" / f"{index}.mp4")
    pipe = JointDiTPipeline.from_pretrained("tiny")
    write_cache(pipe, find_recordings(videos), folder, pipe.shape(4, "25/2", 32, 32))
    return LatentCache(folder)


def config(output: Path, cache: LatentCache, **changes: object) -> TrainingConfig:
    values = {"cache": str(cache.folder), "output": str(output), "steps": 4, "batch": 2, "held_out": 2, "rate": 1e-3}
    values |= {"precision": "float32", "log_every": 2, "save_every": 2, "samples": 0, "tensorboard": False}
    return read_config(TEMPLATES["a"], {name: json.dumps(value) for name, value in (values | changes).items()})


def engine(made: TrainingConfig, cache: LatentCache, report=None) -> Engine:
    return Engine(JointDiTPipeline.from_pretrained("tiny"), cache, made, make_accelerator(cpu=True), report)


def log(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def test_a_finished_run_is_left_alone_and_another_configuration_is_refused(cache, tmp_path):
    output = tmp_path / "run"
    assert train_stage(config(output, cache)).steps == 4
    before = (output / "joint_blocks.safetensors").read_bytes()
    assert train_stage(config(output, cache)).steps == 0
    assert train_stage(config(output, cache, log_every=1, save_every=4)).steps == 0, "these change no number"
    for change in ({"seed": 7}, {"rate": 2e-3}, {"batch": 1}, {"given_video": 0}, {"stage": "b"}):
        ((name, value),) = change.items()
        with pytest.raises(InputError, match=rf"holds a run with {name} .*now {value!r}.*choose another output"):
            train_stage(config(output, cache, **change))
    with pytest.raises(InputError, match="steps 4"):
        train_stage(config(output, cache, steps=2))
    assert (output / "joint_blocks.safetensors").read_bytes() == before


def test_more_steps_go_on_from_a_finished_run_with_one_warning(cache, tmp_path, caplog):
    output = tmp_path / "run"
    train_stage(config(output, cache))
    assert train_stage(config(output, cache, steps=6)).steps == 2
    assert caplog.text.count("steps is 6 and was 4") == 1
    assert [line["step"] for line in log(output)] == [2, 4, 6]


def test_a_resumed_log_repeats_no_line_and_its_seconds_go_on(cache, tmp_path):
    output = tmp_path / "run"

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine(config(output, cache), cache, stop).train()
    with open(output / "log.jsonl", "a") as file:
        file.write(json.dumps({"step": 4, "loss": 9.0}) + "\n" + '{"step": 4, "lo')  # as after a kill
    engine(config(output, cache), cache).train()
    lines = log(output)
    assert [line["step"] for line in lines] == [2, 4] and lines[1]["loss"] != 9.0
    assert lines[1]["seconds"] > lines[0]["seconds"] > 0
    engine(config(tmp_path / "whole", cache), cache).train()
    assert log(tmp_path / "whole")[1]["loss"] == lines[1]["loss"], "the step before the stop counts too"


def test_joint_blocks_can_be_used_while_it_trains_and_the_best_are_marked(cache, tmp_path):
    output, seen = tmp_path / "run", {}

    def look(step: int, steps: int, loss: float) -> None:
        path = output / "joint_blocks.safetensors"
        seen[step] = load_joint_blocks(path).state_dict() if path.exists() else None

    engine(config(output, cache, validate_every=2), cache, look).train()
    assert seen[1] is None and seen[2] is not None
    changed = [name for name, tensor in seen[4].items() if not torch.equal(tensor, seen[2][name])]
    assert changed
    best = [line for line in log(output) if "best" in line]
    assert best and best[-1]["best"]["score"] == max(line["best"]["score"] for line in best)
    load_joint_blocks(output / "best_joint_blocks.safetensors")


def test_two_trainings_do_not_share_a_folder(tmp_path):
    script = f"""
from pathlib import Path
from jointdit.train.run_folder import locked
with locked(Path({str(tmp_path)!r})):
    print("in", flush=True)
    input()
"""
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "in\n"
    with pytest.raises(InputError, match="another training writes there"), locked(tmp_path):
        pass
    other.kill()
    other.wait()
    with locked(tmp_path):  # what was killed does not keep it
        pass


@pytest.mark.parametrize(
    "option, message",
    [
        ("rate=x", "--set rate=x: rate is 'x', but must be a number from 0 to 1000"),
        ("rate=-1", "--set rate=-1: rate is -1.0, but must be a number from 0"),
        ("rated=1", "--set rated=1: unknown option 'rated'"),
        ("audio_weight=0", "--set audio_weight=0: audio_weight is 0.0, but must be a number from 1"),
    ],
)
def test_messages_name_what_was_given(option, message, capsys):
    assert main(["train", "a", "--set", option]) == 2
    error = capsys.readouterr().err
    assert message in error and "stage_a.toml" not in error


def test_the_warm_up_ends_within_a_short_run_and_may_be_left_out(cache, tmp_path):
    assert config(tmp_path, cache, steps=200, warmup=200).warm_steps == 20
    assert config(tmp_path, cache, steps=9000, warmup=200).warm_steps == 200
    assert learning_rate(1.0, 0, 0.0, warmup=0) == 1.0


def test_isolated_clips_alone_leave_no_weight_without_a_gradient(cache, tmp_path):
    """Or processes that share a batch would wait for one another's."""
    run = engine(config(tmp_path / "run", cache, isolated=1.0), cache)
    losses = run._backward(run.share(0))
    assert losses["substeps"] == losses["given_video"] == 0, "what is isolated does not look at the other modality"
    assert [name for name, each in run.trained.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize("has", [False, True])
def test_precision_follows_the_processor_unless_it_is_given(has, monkeypatch, caplog):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: has, raising=False)
    assert choose_precision("auto", torch.device("cpu")) == ("bfloat16" if has else "float32")
    assert choose_precision("float16", torch.device("cpu")) == "float16" and not caplog.text
    assert choose_precision("bfloat16", torch.device("cpu")) == "bfloat16"
    assert ("float32 is many times faster here" in caplog.text) == (not has)


def test_runs_of_one_process_may_differ_in_precision(cache, tmp_path):
    """accelerate itself refuses the second one."""
    for precision in ("bfloat16", "float32", "bfloat16"):
        output = tmp_path / f"{precision}{len(list(tmp_path.iterdir()))}"
        assert train_stage(config(output, cache, precision=precision, steps=1)).steps == 1


def test_joint_blocks_start_from_what_is_asked_for(cache, tmp_path):
    def start(joint: str) -> dict[str, torch.Tensor]:
        path = tmp_path / (joint or "own")
        train_stage(config(path, cache, joint=joint, steps=1, rate=1e-30))
        return load_joint_blocks(path / "joint_blocks.safetensors").state_dict()

    own, identity, random = (start(joint) for joint in ("", "identity", "random"))
    gate = next(name for name in own if name.endswith("audio.modulation.bias"))
    assert own[gate].abs().max() > 0.01 and identity[gate].abs().max() < 1e-6
    assert random[gate].max().item() == pytest.approx(0.5)
    assert identity.keys() == random.keys()


def test_ctrl_c_ends_a_run_after_the_step_and_loses_none(cache, tmp_path):
    """Also where the tests themselves run in the background, with Ctrl-C switched off."""
    options = {"cache": cache.folder, "output": tmp_path / "run", "steps": 100000, "batch": 1, "held_out": 2}
    options |= {"precision": "float32", "samples": 0, "tensorboard": "false", "log_every": 1}
    command = ["train", "a", *(word for name, value in options.items() for word in ("--set", f"{name}={value}"))]
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from jointdit.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    run = subprocess.Popen([sys.executable, "-c", script, *command], stderr=subprocess.PIPE, text=True)
    lines = tmp_path / "run" / "log.jsonl"
    while run.poll() is None and not (lines.exists() and lines.read_text().count("\n") > 2):
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    done = log(tmp_path / "run")[-1]["step"]
    assert read_counters(tmp_path / "run" / "state.safetensors")["step"] == done > 2
    load_joint_blocks(tmp_path / "run" / "joint_blocks.safetensors")
