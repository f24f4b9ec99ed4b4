"""What an end from outside leaves: SIGTERM nothing, SIGKILL nothing after the next run; and no command overwrites what
it reads."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sounding_videos import video

from jointdit.cli import main
from jointdit.cli.stopping import Terminated, terminable
from jointdit.synthetic import synthesize
from jointdit.train.checkpoint import read_counters
from jointdit.train.run_folder import locked


def started(*argv: object, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jointdit", *map(str, argv), "--quiet"],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stopped(process: subprocess.Popen[str], number: int, ready: Callable[[], object]) -> tuple[int, str]:
    """Status and errors of a process that gets a signal as soon as `ready` is true."""
    with process:
        while process.poll() is None and not ready():
            time.sleep(0.005)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def in_work(folder: Path) -> list[Path]:
    return list(folder.glob(".jointdit-*"))


def refused(capsys, *argv: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for index in range(3):
        video(folder / "dog" / f"{index}.mp4")
    return folder


def test_sigterm_while_writing_leaves_nothing(tmp_path):
    argv = ["synth", "clips", "--clips", "1000", "--frames", "60", "--size", "192x192", "--effect", "ball"]
    clips = tmp_path / "clips"
    status, errors = stopped(started(*argv, cwd=tmp_path), signal.SIGTERM, lambda: in_work(clips))
    assert (status, errors) == (143, "jointdit: terminated\n")
    assert not in_work(clips)


def test_what_sigkill_left_is_gone_after_the_next_run(tmp_path):
    argv = ["synth", "clips", "--frames", "60", "--size", "192x192", "--effect", "ball"]
    clips = tmp_path / "clips"
    status, _ = stopped(started(*argv, cwd=tmp_path), signal.SIGKILL, lambda: list(clips.glob(".jointdit-*/*.mp4")))
    assert status == -signal.SIGKILL and in_work(clips)
    assert main(["synth", str(clips), "--frames", "6", "--size", "16x16", "--quiet"]) == 0
    assert sorted(os.listdir(clips)) == ["000000.json", "000000.mp4"]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_falls_into_a_finalizer_is_not_lost(number, error, capfd):
    """There Python drops what is raised; a library that parses as it is imported spends much time in such ones."""

    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # it is raised here

    with pytest.raises(error), terminable():
        finalized = Finalized()
        del finalized
        for _ in range(500):
            time.sleep(0.01)
    assert capfd.readouterr().err == ""


def test_a_run_that_finds_all_done_removes_what_a_kill_left_too(tmp_path):
    left = tmp_path / ".jointdit-a.partial"
    left.mkdir()
    (left / "index.json").touch()
    with locked(tmp_path):
        assert not left.exists()


def test_sigterm_ends_a_training_after_the_step(videos, tmp_path):
    cache, run = tmp_path / "cache", tmp_path / "run"
    shape = ["--frames", "4", "--size", "32x32", "--fps", "12.5", "--quiet"]
    assert main(["cache", str(videos), str(cache), *shape]) == 0
    options = {"cache": cache, "output": run, "steps": 100000, "batch": 1, "held_out": 2, "samples": 0}
    options |= {"precision": "float32", "tensorboard": "false", "log_every": 1}
    argv = ["train", "a", *(word for name, value in options.items() for word in ("--set", f"{name}={value}"))]
    lines = run / "log.jsonl"
    training = started(*argv, cwd=tmp_path)
    while training.poll() is None and not (lines.exists() and lines.read_text().count("\n") > 2):
        time.sleep(0.05)
    status, errors = stopped(training, signal.SIGTERM, lambda: True)
    assert (status, errors) == (143, "jointdit: terminated\n")
    last = json.loads(lines.read_text().splitlines()[-1])["step"]
    assert read_counters(run / "state.safetensors")["step"] == last and not in_work(run)


def test_two_processes_do_not_encode_the_same_part_of_a_cache(videos, tmp_path, capsys):
    argv = ["cache", videos, tmp_path / "cache", "--quiet", "--frames", "4", "--size", "32x32"]
    with locked(tmp_path / "cache", "lock-000-of-001"):
        assert f"{tmp_path / 'cache'}: another run of part 0/1 writes there" in refused(capsys, *argv)
    assert main([str(word) for word in argv]) == 0


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to, None], ids=["symlink", "hard link", "itself"])
@pytest.mark.parametrize("option", ["--video", "--config"])
def test_generate_does_not_write_what_it_reads(option, link, videos, tmp_path, capsys):
    mine, output = tmp_path / "mine.mp4", tmp_path / "mine.mp4" if link is None else tmp_path / "other.mp4"
    mine.write_bytes(b"seed = 1" if option == "--config" else (videos / "dog" / "0.mp4").read_bytes())
    before = mine.read_bytes()
    if link is not None:
        link(output, mine)
    assert f"{output}: this is a file that is read ({mine})" in refused(capsys, "generate", option, mine, "-o", output)
    assert mine.read_bytes() == before and not in_work(tmp_path)


def test_evaluate_and_cache_do_not_write_what_they_read(videos, tmp_path, capsys):
    folder = videos / "dog"
    for name in ("--json", "--plot"):
        assert "is read" in refused(capsys, "evaluate", folder, name, folder / "0.mp4")
    synthesize(tmp_path / "clips", 1, 0, frames=6, size=(16, 16))
    assert "is read" in refused(capsys, "evaluate", tmp_path / "clips", "--json", tmp_path / "clips" / "000000.json")
    cache = tmp_path / "cache"
    assert main(["cache", str(videos), str(cache), "--quiet", "--frames", "4", "--size", "32x32"]) == 0
    assert "is read" in refused(capsys, "cache", cache, "--report", "--json", cache / "cache.json")


def test_a_training_does_not_write_the_joint_blocks_that_it_starts_from(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "joint_blocks.safetensors").write_bytes(b"weights")
    changes = [f"output={run}", f"joint={run / 'joint_blocks.safetensors'}", f"cache={tmp_path}"]
    line = refused(capsys, "train", "a", *(word for change in changes for word in ("--set", change)))
    assert "is read" in line


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file can have more bytes: a write stops in the middle, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_takes_one_line_and_the_next_run_goes_on(videos, tmp_path, capsys):
    cache, run = tmp_path / "cache", tmp_path / "run"
    argv = ["cache", videos, cache, "--frames", "4", "--size", "64x64", "--fps", "12.5", "--quiet"]
    with disk_of(20_000):
        line = refused(capsys, *argv)
    assert str(cache) in line and "cannot be written (file too large)" in line and line.count("\n") == 1
    assert not in_work(cache) and not list(cache.glob("shard-*"))
    assert main([str(word) for word in argv]) == 0

    options = {"cache": cache, "output": run, "steps": 3, "batch": 1, "held_out": 1, "samples": 0, "save_every": 1}
    options |= {"precision": "float32", "tensorboard": "false", "log_every": 1}
    changes = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    argv = ["train", "a", *changes, "--quiet"]
    with disk_of(200_000):
        line = refused(capsys, *argv)
    assert str(run) in line and "cannot be written (file too large)" in line and line.count("\n") == 1
    assert not in_work(run) and not list(run.glob("*.safetensors"))
    assert main([str(word) for word in argv]) == 0
    assert [json.loads(each)["step"] for each in (run / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert read_counters(run / "state.safetensors")["step"] == 3
