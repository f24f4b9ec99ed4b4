"""Stage A put to the test: what each part of the objective is worth, and how sync grows with training.

    python tests/benchmarks/stage_a.py ablation --model tiny --cache CACHE --photos ../shared/media/images \\
        --work runs/ablation --json docs/logs/stage_a_ablation.json
    python tests/benchmarks/stage_a.py curve --model PAIR --joint 'run/*.safetensors' --photos ../shared/media/images \\
        --work runs/curve --json docs/logs/stage_a_curve.json

`ablation` trains Joint Blocks of a model anew from the identity, with one thing changed each time, and judges clips on
photos from their files. `curve` judges Joint Block files as they are. Rows that the JSON has are not made again.
On a machine that does other work, set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jointdit import JointDiTPipeline
from jointdit.checkpoints.joint_files import save_joint_blocks
from jointdit.evaluate.generated import draw_tasks, generate_clips
from jointdit.evaluate.report import as_json
from jointdit.evaluate.sync import observe, sync_by_effect
from jointdit.media import read_image
from jointdit.media.files import whole_file
from jointdit.models.joint_block import JointBlocks
from jointdit.pipeline import SamplingSettings
from jointdit.train.run import train_stage
from jointdit.train.stages import TEMPLATES, read_config

SEED = 70_000  # of the judged scenes and of their noise
EFFECTS = ("lightning", "hammer", "heartbeat", "ball", "drops", "fireworks")  # with events that can be seen and heard


@dataclass(frozen=True)
class Arm:
    """changes: of the options of Stage A.    aligned: whether queries and keys start aligned in time."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    aligned: bool = True


PLAIN = {"audio_weight": 1.0, "audio_substeps": 0, "given_video": 0, "path_share": 0.0}
ARMS = {
    "as it is": Arm(),
    "plain errors of epsilon": Arm({"audio_weight": 1.0}),
    "no sub-steps beside a nearly clean video": Arm({"given_video": 0}),
    "no sub-steps after joint evaluations": Arm({"audio_substeps": 0}),
    "no levels along the sampling path": Arm({"path_share": 0.0}),
    "sub-steps at even levels": Arm({"audio_noise_power": 1.0}),
    "queries and keys at random": Arm(aligned=False),
    "gates half open": Arm({"joint": "random"}),
    "none of it": Arm(PLAIN, aligned=False),
    "rate / 3": Arm({"rate": 1e-3}),
    "rate x 3": Arm({"rate": 9e-3}),
    "isolated": Arm({"isolated": 1.0}),
}


def train(arm: Arm, options: argparse.Namespace, output: Path) -> dict[str, Any]:
    """The last validation of a run, and where its Joint Blocks are."""
    changes = {
        "model": options.model,
        "cache": options.cache,
        "steps": options.steps,
        "batch": 8,
        "micro_batch": 8,
        "rate": options.rate,
        "average": 0.98,
        "held_out": 48,
        "validate_every": max(1, options.steps // 3),
        "save_every": options.steps,
        "log_every": 10,
        "samples": 0,
        "tensorboard": "false",
        "precision": "float32",
        "output": output,
    } | dict(arm.changes)
    if not arm.aligned:
        changes["joint"] = output / "random_queries.safetensors"
        write_unaligned(options.model, changes["joint"])
    train_stage(read_config(TEMPLATES["a"], {name: str(value) for name, value in changes.items()}))
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    validations = [line for line in lines if "gain" in line]
    return {
        "gain": {str(line["step"]): line["gain"] for line in validations},
        "seconds": lines[-1].get("seconds") or lines[-2]["seconds"],
    }


def write_unaligned(model: str, path: Path) -> None:
    """Joint Blocks at their identity start, with queries and keys as PyTorch draws them."""
    pipe = JointDiTPipeline.from_pretrained(model, joint="identity")
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_joint_blocks(JointBlocks.from_config(dict(pipe.joint_blocks.config)), path)


def judge(pipe: JointDiTPipeline, options: argparse.Namespace, folder: Path, settings: SamplingSettings) -> Any:
    """Sync of clips on photos, by effect and over all, with chance."""
    photos = [read_image(path) for path in sorted(options.photos.iterdir()) if path.suffix in (".jpg", ".png")]
    tasks = draw_tasks(options.clips, SEED, pipe.shape(), EFFECTS, photos=photos)
    folder.mkdir(parents=True, exist_ok=True)
    clips = generate_clips(pipe, tasks, SEED, folder, settings=settings)
    found = sync_by_effect([observe(clip, task.scene.effect) for task, clip in zip(tasks, clips, strict=True)])
    return as_json(found)


def write(path: Path, options: argparse.Namespace, rows: Mapping[str, Any]) -> None:
    """All rows, with what made them."""
    given = {name: str(value) for name, value in vars(options).items() if name not in ("json", "work")}
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "gpu": None}
    threads = torch.get_num_threads()
    report = {"command": "tests/benchmarks/stage_a.py", "options": given, "machine": machine, "threads": threads}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ablation", "curve"))
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--joint", default="", help="curve: a pattern of Joint Block files")
    parser.add_argument("--stage-b", type=Path, help="curve: one more row, of what Stage B with adapters wrote there")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--clips", type=int, default=36)
    options = parser.parse_args(arguments)
    rows = json.loads(options.json.read_text(encoding="utf-8"))["rows"] if options.json.exists() else {}
    if options.what == "ablation":
        for name in options.arms:
            if name not in rows:
                output = options.work / name.replace(" ", "_").replace("/", "by")
                trained = train(ARMS[name], options, output)
                pipe = JointDiTPipeline.from_pretrained(options.model, joint=output / "joint_blocks.safetensors")
                rows[name] = trained | {"sync": judge(pipe, options, output / "clips", SamplingSettings())}
                write(options.json, options, rows)
                print(name, {step: round(gain["audio"], 3) for step, gain in trained["gain"].items()}, flush=True)
    else:
        parts: dict[str, dict[str, Any]] = {"identity": {"joint": "identity"}}
        parts |= {path.stem: {"joint": path} for path in sorted(Path().glob(options.joint))}
        parts["isolated"] = list(parts.values())[-1]
        if run := options.stage_b:
            parts["stage B"] = {"joint": run / "joint_blocks.safetensors", "adapters": run / "adapters"}
        for name, files in parts.items():
            if name not in rows:
                pipe = JointDiTPipeline.from_pretrained(options.model, **files)
                settings = SamplingSettings(isolated=name == "isolated")
                rows[name] = {"sync": judge(pipe, options, options.work / name, settings)}
                write(options.json, options, rows)
                print(name, rows[name]["sync"]["all"], flush=True)


if __name__ == "__main__":
    main()
