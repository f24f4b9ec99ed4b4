"""How good the bundled model is: the JSON of all its scores, and a table of them (`bundled_model_tables.py`).

    python tests/benchmarks/bundled_model.py --json docs/logs/bundled_model.json

A run that was stopped goes on where it was: clips are kept below --work, named by what they were made with (weights and
settings), and a row of the JSON that is still true is not made again. Rows that ask for the same share their clips, and
clip number n has the same picture, the same truth and the same noise in every row. On a machine that does other work,
set OMP_NUM_THREADS=1: threads that wait for each other take most of the time then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bundled_model_tables import table

from jointdit import JointCFG, JointDiTPipeline, SamplingSettings
from jointdit.checkpoints.folders import resolve
from jointdit.cli.progress import Progress, hushed
from jointdit.diffusion.sync_guidance import SyncGuidance
from jointdit.errors import InputError
from jointdit.evaluate.align import Curves, align_clips
from jointdit.evaluate.effects import EffectJudge, train_judges
from jointdit.evaluate.generated import Task, autoencode_truth, autoencoded, draw_tasks, generate_clips, score_clips
from jointdit.evaluate.reconstruction import flutter, log_mel_error, pitch_errors
from jointdit.evaluate.report import as_json
from jointdit.media import Clip, read_image
from jointdit.media.files import whole_file
from jointdit.synthetic import EFFECTS

SEED = 20_000  # of scenes and of noise
BATCH = 4


@dataclass(frozen=True)
class Row:
    """One row of the table. clips: an effect.    options: of `JointDiTPipeline.__call__`; guidance by its mode alone.
    prompts: as `draw_tasks` has them.    photos: natural pictures, instead of drawn ones."""

    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    prompts: str = "captions"
    photos: bool = False
    clips: int = 8


FEW = 4  # clips an effect, of rows that only stand beside others

ROWS = {
    "main": Row("**as it is**", clips=32),
    "isolated": Row("isolated passes", {"isolated": True}),
    "photos": Row("natural photos", photos=True),
    "unseen": Row("prompts in words that no caption had", prompts="unseen"),
    "fresh": Row("the same, held-out synonyms", prompts="fresh"),
    "no-prompt": Row("no prompt (asked: what the picture suggests)", prompts="none"),
    **{f"substeps-{n}": Row(f"audio sub-steps: {n}", {"audio_substeps": n}, clips=FEW) for n in (1, 2, 4, 8)},
    **{f"grid-{name}": Row(f"audio grid: {name}", {"audio_grid": name}, clips=FEW)
       for name in ("own", "even", "coupled")},
    **{f"guidance-{mode}": Row(f"guidance: {mode}", {"guidance": mode}, clips=FEW)
       for mode in ("none", "cfg", "joint-cfg", "joint-cfg-star")},
    "sync": Row("sound pulled to the picture (0.5)", {"sync": SyncGuidance(0.5)}, clips=FEW),
}  # fmt: skip


def counterpart(own: JointCFG, mode: str) -> JointCFG:
    """The model's own guidance in another mode: as strong, and in joint-cfg-star agreement twice as far from neutral as
    obedience (with both alike it would be joint-cfg)."""
    if mode == own.mode or mode == "none":
        return own.changed(mode=mode)
    given = own.scales
    video, audio = (given.get(f"{each}_scale", given.get(f"{each}_joint_scale", 1.0)) for each in ("video", "audio"))
    if mode == "joint-cfg":
        scales = {"video_joint_scale": video, "audio_joint_scale": audio}
    else:
        scales = {"video_scale": video, "audio_scale": audio}
    if mode == "joint-cfg-star":
        scales |= {"video_joint_scale": 2 * video - 1, "audio_joint_scale": 2 * audio - 1}
    return own.changed(mode=mode, **scales)


class Benchmark:
    """The rows of one model. What they share (judges, scenes, truths) is made once, when the first row needs it."""

    def __init__(self, model: str, photos: Path, work: Path, judge_scenes: int, progress: Progress) -> None:
        self.pipe = JointDiTPipeline.from_pretrained(model)
        self.weights = digest_of(model)
        self.work, self.judge_scenes, self.progress = work, judge_scenes, progress
        paths = sorted(path for path in photos.glob("*") if path.suffix in (".jpg", ".png"))
        self.photos = {path.name: read_image(path) for path in paths}
        self._judges: tuple[EffectJudge, EffectJudge] | None = None

    def options(self, row: Row) -> dict[str, Any]:
        """What `JointDiTPipeline.__call__` is given for a row, each value spelled out."""
        own = self.pipe.defaults
        wanted = {
            "isolated": False,
            "audio_substeps": own.audio_substeps,
            "audio_grid": "own",
            "guidance": self.pipe.guidance.mode,
        } | row.options
        wanted["guidance"] = counterpart(self.pipe.guidance, wanted["guidance"])
        if own.audio_start is None and wanted["audio_grid"] == "own":
            wanted["audio_grid"] = "even"
        return wanted | {"video_temperature": own.video_temperature}

    def settings(self, row: Row) -> dict[str, Any]:
        """Everything that decides the clips of a row, as JSON has it."""
        options = self.options(row)
        guidance = options.pop("guidance")
        return as_json({
            "weights": self.weights,
            "seed": SEED,
            "prompts": row.prompts,
            "pictures": list(self.photos) if row.photos else "drawn",
            "guidance": guidance.mode,
            "scales": guidance.scales,
            "interval": guidance.interval,
            "prompt_interval": guidance.prompt_interval,
            "steps": self.pipe.defaults.steps,
            "sigmas": self.pipe.defaults.sigmas,
            **options,
        })  # fmt: skip

    def folder(self, made_with: Mapping[str, Any]) -> Path:
        """Where clips that were made with this are kept."""
        name = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:16]
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "made_with.json").write_text(json.dumps(made_with, indent=2) + "\n", encoding="utf-8")
        return folder

    def judges(self) -> tuple[EffectJudge, EffectJudge]:
        """Of sound and of pictures."""
        if self._judges is None:
            self._judges = train_judges(
                train=self.judge_scenes,
                autoencode=lambda clip: autoencoded(self.pipe, clip),
                progress=self._reporting("judges"),
            )
        return self._judges

    def truths(self, row: Row, tasks: list[Task]) -> list[Clip]:
        """The scenes through the autoencoders; rows with the same pictures share them."""
        pictures = self.settings(row)["pictures"]
        folder = self.folder({"weights": self.weights, "seed": SEED, "pictures": pictures, "truth": True})
        return autoencode_truth(self.pipe, tasks, folder, self._reporting("truth"))

    def clips(self, row: Row, tasks: list[Task]) -> list[Clip]:
        """The clips of a row."""
        options = self.options(row)
        if options["audio_grid"] == "own":
            options["audio_grid"] = None
        folder, settings = self.folder(self.settings(row)), SamplingSettings(**options)
        return generate_clips(self.pipe, tasks, SEED, folder, BATCH, self._reporting("clips"), settings=settings)

    def score(self, row: Row, clips: int) -> dict[str, Any]:
        """The row's entry in the JSON, with `clips` clips an effect."""
        if row.photos and not self.photos:
            raise InputError("no natural pictures; name a folder of them with --photos")
        photos = list(self.photos.values()) if row.photos else ()
        tasks = draw_tasks(clips * len(EFFECTS), SEED, self.pipe.shape(), prompts=row.prompts, photos=photos)
        made, truths = self.clips(row, tasks), self.truths(row, tasks)
        scores = score_clips(tasks, made, truths, self.judges())
        pairs = [(truth, task.truth) for truth, task in zip(truths, tasks, strict=True)]
        cents: dict[str, list[float]] = {task.scene.effect: [] for task in tasks}
        for task, pair in zip(tasks, pairs, strict=True):
            cents[task.scene.effect].extend(np.abs(pitch_errors(*pair)))
        bells = [number for number, task in enumerate(tasks) if task.scene.effect == "bell"]
        sounds = {"made": made, "autoencoded": truths, "scenes": [task.truth for task in tasks]}
        return as_json({
            "title": row.title,
            "settings": self.settings(row),
            **{name: getattr(scores, name) for name in scores.__dataclass_fields__},
            "align": align_clips([Curves.of(clip) for clip in made]),
            "autoencoded_log_mel_error_db": float(np.mean([log_mel_error(*pair) for pair in pairs])),
            "autoencoded_pitch_error_cents": float(np.median(sum(cents.values(), []))),
            "autoencoded_pitch_error_cents_by_effect": {
                effect: float(np.median(errors)) for effect, errors in cents.items() if len(errors)
            },
            "bell_flutter": {
                name: float(np.nanmean([flutter(clips[number]) for number in bells])) for name, clips in sounds.items()
            },
            "ends_dbfs": ends(made),
        })  # fmt: skip

    def _reporting(self, stage: str):
        return lambda done, total: self.progress(stage, done, total)


def ends(clips: list[Clip]) -> float:
    """The louder of the first and the last sample in dB of full scale, median over clips: what would click."""
    return float(np.median([20 * np.log10(np.abs(clip.audio[:, [0, -1]]).max() + 1e-6) for clip in clips]))


def digest_of(model: str) -> str:
    """Changes with any file of a model."""
    digest = hashlib.sha256()
    for path in sorted(path for path in resolve(model).rglob("*") if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def megabytes(model: str) -> float:
    """Of its weights."""
    return round(sum(path.stat().st_size for path in resolve(model).rglob("*.safetensors")) / 1e6, 1)


def run(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Makes the rows that are asked for and not there yet; the JSON is written after each."""
    report = read(arguments.json)
    bench = Benchmark(arguments.model, arguments.photos, arguments.work, arguments.judge_scenes, progress)
    rows = report["rows"]
    report["rows"] = {name: row for name, row in rows.items() if row["settings"]["weights"] == bench.weights}
    for name in arguments.rows:
        row = ROWS[name]
        clips = arguments.clips or row.clips
        there = report["rows"].get(name, {})
        if there.get("settings") == bench.settings(row) and there["clips"] >= clips * len(EFFECTS):
            continue
        scored = bench.score(row, clips)
        report["rows"][name] = scored
        report |= {
            "command": shlex.join(["python", "tests/benchmarks/bundled_model.py", *sys.argv[1:]]),
            "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU",
            "model": {"name": arguments.model, "weights": bench.weights, "megabytes": megabytes(arguments.model)},
        }
        with whole_file(arguments.json) as partial:
            partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{name}: {scored['clips']} clips", file=sys.stderr)
    return report


def read(path: Path) -> dict[str, Any]:
    """The JSON so far."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the scores are, and go")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS), help=", ".join(ROWS))
    parser.add_argument("--clips", type=int, help="an effect, in every row (default: 32 in the main one, 8 or 4)")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--photos", type=Path, default=Path("../shared/media/images"), help="natural pictures")
    parser.add_argument("--judge-scenes", type=int, default=30, help="of each effect, that the judges learn from")
    parser.add_argument("--work", type=Path, default=Path("runs/bundled_model"), help="where clips are kept")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.rows if name not in ROWS]:
        parser.error(f"--rows {unknown[0]}: give some of {', '.join(ROWS)}")
    if arguments.clips is not None and arguments.clips < 2:
        parser.error(f"--clips {arguments.clips}: chance needs at least 2 clips an effect")
    with hushed(), Progress(quiet=False) as progress:
        report = run(arguments, progress)
    print("\n".join(table(report)))


if __name__ == "__main__":
    main()
