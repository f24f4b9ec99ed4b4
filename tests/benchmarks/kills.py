"""Kills commands at random moments, and checks that nothing is lost or left behind.

    python tests/benchmarks/kills.py --kills 20 --json docs/logs/kills.json

A process that has imported everything forks one child for each attempt, which runs `jointdit.cli.main`: an attempt
costs what the command costs. A kill (SIGTERM and SIGKILL in turn) falls on a random moment of the command's own work,
however busy the machine is: just before a random one of its operations on files and connections, or after a random
share of its processor time. What was there before must then be whole, and SIGTERM must have left nothing in work; after
the next whole run there must be what an undisturbed run makes, byte for byte, and nothing else.

The JSON grows by each attempt, and those that it has are not made again. Status 1 if anything was lost or left. Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

LONGEST = 300.0  # seconds that a run may take
MEGABYTE = 10**6
CHANGES = {"mkdir", "remove", "rename", "rmdir", "truncate", "chmod", "link", "symlink"}
OPERATIONS = {f"os.{name}" for name in CHANGES} | {"fcntl.flock", "shutil.rmtree", "socket.connect", "socket.sendto"}
WORKFLOW = Path(__file__).parents[2] / "workflows" / "api" / "image_to_sounding_video.json"

Result = Mapping[str, Any]


class Moment(NamedTuple):
    """When a command is killed: before an operation, counted from 1, or after so many seconds of processor time."""

    signal: int
    operation: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        when = f"{self.seconds:.3f} s" if self.operation is None else f"operation {self.operation}"
        return f"{signal.Signals(self.signal).name} at {when}"


@dataclass(frozen=True)
class Run:
    """How a run of a command went.

    complaint: what it wrote to stderr.    operations: on files and connections.    seconds: of processor time.
    modules: all that it had imported. These two are of whole runs alone.
    """

    status: int
    complaint: str
    operations: int
    seconds: float
    modules: list[str]


@dataclass(frozen=True)
class Command:
    """A command and what it makes.

    folder: all that it writes is there.    result: what is there, to be compared.
    kept: what the command is to replace stands there before, and must be there or be new after every kill.
    """

    argv: list[str]
    folder: Path
    result: Callable[[Path], Result]
    kept: bool = False


def run(argv: list[str], moment: Moment | None = None) -> Run:
    """Runs a command in a child of this process; kills it at the moment."""
    with tempfile.TemporaryFile() as complaints, tempfile.TemporaryFile() as report:
        child = os.fork()
        if child == 0:
            _be(argv, moment, complaints.fileno(), report.fileno())
        end = time.monotonic() + LONGEST
        seconds = None if moment is None else moment.seconds
        while not (ended := os.wait4(child, os.WNOHANG))[0]:
            if seconds is not None and moment is not None and _processor_seconds(child) >= seconds:
                os.kill(child, moment.signal)
                seconds = None
            if time.monotonic() > end:
                os.kill(child, signal.SIGABRT)
                end = float("inf")
            time.sleep(0.001)
        complaints.seek(0)
        report.seek(0)
        told = json.loads(report.read() or '{"operations": 0, "modules": []}')
        _, status, used = ended
        complaint = complaints.read().decode(errors="replace")
        return Run(os.waitstatus_to_exitcode(status), complaint, seconds=used.ru_utime + used.ru_stime, **told)


def _processor_seconds(process: int) -> float:
    with suppress(OSError):  # it has just ended
        return time.clock_gettime(~process << 3 | 2)  # as clock_getcpuclockid(3) makes it
    return 0.0


def _be(argv: list[str], moment: Moment | None, complaints: int, report: int) -> None:
    """The child: the command, and the end of the process."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for ours, theirs in ((nowhere, 0), (nowhere, 1), (complaints, 2)):
        os.dup2(ours, theirs)
    count, lock = 0, threading.Lock()

    def notice(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in OPERATIONS:
            with lock:
                count += 1
                now = moment is not None and count == moment.operation
            if now and moment is not None:
                os.kill(os.getpid(), moment.signal)

    from jointdit.cli import main
    from jointdit.media.partials import remove_leftovers

    remove_leftovers.cache_clear()  # a process of its own would have looked nowhere yet
    sys.addaudithook(notice)
    status: Any = "a traceback"
    try:
        status = main(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.write(report, json.dumps({"operations": count, "modules": list(sys.modules)}).encode())
        os._exit(status if isinstance(status, int) else 70)


def names(folder: Path) -> set[str]:
    """All that is in a folder, but for locks, which stay by design."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in found if not Path(name).name.startswith("lock")}


def in_work(folder: Path) -> list[str]:
    return sorted(name for name in names(folder) if ".jointdit-" in name or ".partial" in name)


def files(folder: Path) -> Result:
    """Every file with its checksum."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() if (folder / name).is_file() else "folder"
        for name in names(folder)
    }


def cached(folder: Path) -> Result:
    """The clips of a cache and all numbers of each, in however many shards they are."""
    from jointdit.train.cache import CONFIG, PER_CLIP, TEXT, LatentCache
    from jointdit.train.cache_index import INDEX

    others = {name for name in names(folder) if not name.startswith("shard-")}
    if not others <= {INDEX, CONFIG}:
        raise AssertionError(f"{others} in the cache")
    cache = LatentCache(folder)
    found = {}
    for index, name in enumerate(cache.names):
        clip = cache.read(index)
        tensors = [*(getattr(clip, each) for each in PER_CLIP), *(getattr(clip.text, each) for each in TEXT)]
        found[name] = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()
    return found


def trained(folder: Path) -> Result:
    """The weights of a run, to the last bit, and the steps of its log."""
    from safetensors.torch import load_file

    from jointdit.train.checkpoint import read_counters
    from jointdit.train.run_folder import BEST, BLOCKS, LOG, STATE

    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    steps = [f"{line['step']} {'validation' if 'gain' in line else 'loss'}" for line in lines]
    weights = {  # the order of what stands before them in the file changes from run to run
        f"{name} {key}": hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for name in (BEST, BLOCKS)
        for key, tensor in load_file(folder / name).items()
    }
    step = read_counters(folder / STATE)["step"]
    return {"names": sorted(names(folder)), "steps": steps, "step": step} | weights


def commands(base: Path, server: str) -> dict[str, Command]:
    """The commands, small: seconds of work each. Makes the videos and the cache that they read."""
    from sounding_videos import video

    videos, source = base / "videos", base / "source"
    shape = ["--frames", "8", "--fps", "12.5", "--size", "64x64", "--quiet"]
    if not source.exists():
        for index in range(4):
            video(videos / "dog" / f"{index}.mp4", seconds=1.4)
        _whole(["cache", str(videos), str(source), *shape])
    options = {"cache": source, "output": base / "train", "steps": 4, "batch": 1, "held_out": 2, "samples": 0}
    options |= {"precision": "float32", "tensorboard": "false", "log_every": 1, "validate_every": 4, "save_every": 1}
    changes = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    made, cache, fetched, saved = (base / name for name in ("generate", "cache", "fetch-models", "run-workflow"))
    quick = ["--seed", "1", "--steps", "2", "--frames", "8", "--size", "64x64", "--wav", "--quiet"]
    return {
        "generate": Command(["generate", "-o", str(made / "a.mp4"), *quick], made, files, kept=True),
        "cache": Command(["cache", str(videos), str(cache), "--shard-size", "1", *shape], cache, cached),
        "train": Command(["train", "a", *changes, "--quiet"], base / "train", trained),
        "fetch-models": Command(["fetch-models", "svd", "--to", str(fetched), "--yes", "--quiet"], fetched, files),
        "run-workflow": Command(
            ["run-workflow", str(WORKFLOW), "--server", server, "--out", str(saved), "--overwrite", "--quiet"],
            saved,
            files,
            kept=True,
        ),
    }


def _whole(argv: list[str]) -> Run:
    done = run(argv)
    if done.status:
        raise SystemExit(f"{argv[0]} ended with status {done.status}: {done.complaint}")
    return done


def attempt(name: str, command: Command, expected: Result, moment: Moment) -> dict[str, Any]:
    """One kill and the next run: a row for the JSON."""
    wrong = []
    if not command.kept:
        shutil.rmtree(command.folder, ignore_errors=True)
    killed = run(command.argv, moment)
    command.folder.mkdir(exist_ok=True)
    number = moment.signal
    # SIGTERM has its own status while the command does not listen yet, or no longer.
    if killed.status not in (0, -number) and (number, killed.status) != (signal.SIGTERM, 143):
        wrong.append(f"status {killed.status}")
    if any(word in killed.complaint for word in ("Traceback", "this is a bug")):
        wrong.append(f"said {killed.complaint[-2000:]!r}")
    if number == signal.SIGTERM and (left := in_work(command.folder)):
        wrong.append(f"the kill left {left}")
    if command.kept and (lost := {key for key, each in expected.items() if files(command.folder).get(key) != each}):
        wrong.append(f"the kill lost {sorted(lost)}")
    again = run(command.argv)
    if again.status:
        wrong.append(f"the next run ended with status {again.status}: {again.complaint[-2000:]}")
    if left := in_work(command.folder):
        wrong.append(f"the next run left {left}")
    try:
        result = command.result(command.folder)
    except Exception as error:  # whatever it is, something was lost
        wrong.append(f"what the next run made cannot be read: {error!r}")
    else:
        if other := sorted(key for key in expected.keys() | result.keys() if expected.get(key) != result.get(key)):
            wrong.append(f"the next run made other {other}")
    return {"command": name, "moment": str(moment), "status": killed.status, "wrong": wrong}


def moments(name: str, whole: Run, seed: int) -> Iterator[Moment]:
    """Random ones, the same for every start of this program as far as the command's work is the same."""
    drawn = random.Random(f"{name} {seed}")
    index = 0
    while True:
        number = (signal.SIGTERM, signal.SIGKILL)[index % 2]
        share = drawn.uniform(0.02, 1)
        if index // 2 % 2:
            yield Moment(number, seconds=share * whole.seconds)
        else:
            yield Moment(number, operation=max(1, round(share * whole.operations)))
        index += 1


def try_command(
    name: str, command: Command, kills: int, rows: list[dict[str, Any]], seed: int
) -> Iterator[dict[str, Any]]:
    """Attempts, until so many commands were killed before they were done. rows: what was tried before."""
    shutil.rmtree(command.folder, ignore_errors=True)
    command.folder.mkdir()
    for module in _whole(command.argv).modules:  # so that the next children have them
        with suppress(Exception):
            importlib.import_module(module)
    if not command.kept:
        shutil.rmtree(command.folder)
    whole = _whole(command.argv)
    expected = command.result(command.folder)
    shown = f"{whole.seconds:.2f} s of processor time, {whole.operations} operations"
    print(f"{name}: a whole run takes {shown}", flush=True)
    killed = sum(row["status"] != 0 for row in rows)
    drawn = islice(moments(name, whole, seed), len(rows), None)
    while killed < kills:
        row = attempt(name, command, expected, next(drawn))
        killed += row["status"] != 0
        yield row


def serve(make: Callable[[], Any], told: Any) -> None:
    """A server in a process of its own, which tells its address."""
    server = make()
    told.send(server.url)
    time.sleep(10**6)


def make_hub() -> Any:
    from hub_stand_in import Hub

    settings = ["feature_extractor/preprocessor_config.json", "scheduler/scheduler_config.json", "model_index.json"]
    folders = {"image_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
    paths = settings + [f"{folder}/config.json" for folder in folders]
    paths += [f"{folder}/{weights}.fp16.safetensors" for folder, weights in folders.items()]
    large = {path: 20 * MEGABYTE if path.startswith("unet/diff") else 3000 for path in paths}
    repository = {path: random.Random(path).randbytes(size) for path, size in large.items()}
    return Hub({"stabilityai/stable-video-diffusion-img2vid": repository}).__enter__()


def make_server() -> Any:
    from hostile_server import Hostile

    saved = [{"filename": f"clip_{index}.mp4", "subfolder": "", "type": "output"} for index in range(4)]
    video = random.Random(0).randbytes(3 * MEGABYTE)
    return Hostile({"/view": video}, {"9": {"images": saved}})


@contextmanager
def in_a_process(make: Callable[[], Any]) -> Iterator[str]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(make, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["generate", "cache", "train", "fetch-models", "run-workflow"]
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--commands", nargs="+", choices=names, default=names)
    parser.add_argument("--seed", type=int, default=0, help="another one draws other moments")
    parser.add_argument("--json", type=Path, help="what was tried; what is there already is not tried again")
    arguments = parser.parse_args()
    rows = json.loads(arguments.json.read_text())["rows"] if arguments.json and arguments.json.exists() else []
    with tempfile.TemporaryDirectory() as folder, in_a_process(make_hub) as hub, in_a_process(make_server) as server:
        os.environ |= {"OMP_NUM_THREADS": "1", "HF_ENDPOINT": hub, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": folder}
        for name, command in commands(Path(folder), server).items():
            if name not in arguments.commands:
                continue
            own = [each for each in rows if each["command"] == name]
            for row in try_command(name, command, arguments.kills, own, arguments.seed):
                rows.append(row)
                print(json.dumps(row), flush=True)
                if arguments.json:
                    write_report(arguments.json, arguments.kills, rows)
    wrong = [row for row in rows if row["wrong"]]
    print("\n".join(map(str, wrong)) or f"{len(rows)} attempts: nothing was lost or left")
    return bool(wrong)


def write_report(path: Path, kills: int, rows: list[dict[str, Any]]) -> None:
    from jointdit.media.files import write_json

    names = dict.fromkeys(row["command"] for row in rows)
    counts = {
        name: {
            "killed": sum(row["status"] != 0 for row in rows if row["command"] == name),
            "wrong": sum(bool(row["wrong"]) for row in rows if row["command"] == name),
        }
        for name in names
    }
    command = f"python tests/benchmarks/kills.py --kills {kills} --json docs/logs/{path.name}"
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU, 1 thread"
    write_json(path, {"command": command, "machine": machine, "commands": counts, "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
