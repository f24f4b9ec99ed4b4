"""How the bundled model paints: its objects, their colours, fine detail and grain, and its error by noise level.

    python tests/benchmarks/painting.py --json docs/logs/painting.json
    python tests/benchmarks/painting.py --parts levels       # seconds: the error of the clean estimate alone
    python tests/benchmarks/painting.py --parts objects --json docs/logs/painting_by_level.json
                                    # minutes: at which noise level the clean estimate of a true scene has an object

Clips are on natural photos that nothing was trained on, with default settings, measured from their files; beside them
stand the same scenes through the autoencoders. Clips and the strict judge of objects are kept below --work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bundled_model import SEED, digest_of
from safetensors.torch import load_file, save_file

from jointdit import JointDiTPipeline, SamplingSettings
from jointdit.cli.progress import Progress, hushed
from jointdit.evaluate.generated import Task, autoencode_truth, draw_tasks, generate_clips
from jointdit.evaluate.levels import errors_by_level, objects_by_level
from jointdit.evaluate.objects import OBJECTS, ObjectJudge, ObjectNet
from jointdit.evaluate.painting import added_colour, calm_and_busy, fine_detail
from jointdit.evaluate.report import as_json
from jointdit.evaluate.scores import share
from jointdit.evaluate.sync import observe, sync_by_effect
from jointdit.media import Clip, read_image
from jointdit.media.files import write_json
from jointdit.synthetic import PictureSource, bundled_photos, render_scene
from jointdit.synthetic.effects.materials import COLOURS

LEVEL_SCENES = 24
OBJECT_LEVELS = (11.0, 4.0, 2.4, 1.4, 0.8, 0.4)  # of the video's noise
UNMOVED = ("lightning", "bell", "drops")  # the picture stays in its place: elsewhere a jolt counts as grain


def judge(work: Path, scenes: int, progress: Progress) -> ObjectJudge:
    """The strict judge, trained once."""
    path = work / f"objects-{scenes}.safetensors"
    if path.exists():
        net = ObjectNet()
        net.load_state_dict(load_file(path))
        return ObjectJudge(net.eval())
    trained = ObjectJudge.trained(scenes, progress=lambda done, total: progress("judge", done, total))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(trained.net.state_dict(), path)
    return trained


def painted(clips: Sequence[Clip], tasks: Sequence[Task], judged: ObjectJudge) -> dict[str, Any]:
    """Objects that the judge sees, fine detail, and grain of calm frames and of busy ones."""
    effects = np.array([task.scene.effect for task in tasks])
    seen = np.array([judged.sees(clip.frames, effect) for clip, effect in zip(clips, effects, strict=True)])
    grains = np.array([calm_and_busy(clip.frames) for clip in clips])
    mean, interval = share(seen)
    return {
        "objects": {"share": mean, "interval": interval},
        "objects_by_effect": {effect: seen[effects == effect].mean().item() for effect in OBJECTS},
        "fine_detail": np.mean([fine_detail(clip.frames) for clip in clips]).item(),
        "grain_calmest": grains[:, 0].mean().item(),
        "grain_events": grains[np.isin(effects, UNMOVED), 1].mean().item(),
        "sync": sync_by_effect([observe(clip, effect) for clip, effect in zip(clips, effects, strict=True)]),
    }


def coloured(tasks: Sequence[Task], count: int) -> list[Task]:
    """The first scenes of balls with prompts that name each colour in turn."""
    names, scenes = list(COLOURS), [task.scene for task in tasks if task.scene.effect == "ball"]
    prompts = (f"a {names[i % len(names)]} ball bounces on the ground" for i in range(count))
    return [Task(prompt, scenes[i % len(scenes)]) for i, prompt in enumerate(prompts)]


def right_colours(clips: Sequence[Clip], asked: Sequence[str]) -> dict[str, Any]:
    """Share of clips in which what was added has the asked colour."""
    found = [added_colour(clip.frames) for clip in clips]
    mean, interval = share([one == other for one, other in zip(found, asked, strict=True)])
    return {"share": mean, "interval": interval, "asked_and_seen": list(zip(asked, found, strict=True))}


def level_scenes(pipe: JointDiTPipeline) -> list[Any]:
    """Scenes as training has them, of other seeds."""
    pictures, shape = PictureSource.from_files(bundled_photos()), pipe.shape()
    return [render_scene(650_000_000 + n, pictures=pictures, **vars(shape)) for n in range(LEVEL_SCENES)]


def run(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    pipe = JointDiTPipeline.from_pretrained(arguments.model)
    given, scale = SamplingSettings(steps=arguments.steps, sampler=arguments.sampler), arguments.prompt_scale
    if scale is not None:
        given = given.changed(guidance=pipe.guidance.changed(video_prompt_scale=scale))
    report: dict[str, Any] = {
        "command": shlex.join(["python", "tests/benchmarks/painting.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU",
        "model": {"name": arguments.model, "weights": digest_of(arguments.model)},
        "sampler": {"name": arguments.sampler, "steps": pipe.grid(given).steps},
        "scales": (given.guidance or pipe.guidance).scales,
    }
    if "levels" in arguments.parts:
        report["levels"] = as_json(errors_by_level(pipe, level_scenes(pipe)))
    if {"clips", "objects"} & set(arguments.parts):
        photos = [read_image(p) for p in sorted(arguments.photos.iterdir()) if p.suffix in (".jpg", ".png")]
        tasks = draw_tasks(arguments.clips * len(OBJECTS), SEED, pipe.shape(), OBJECTS, photos=photos)
    if "objects" in arguments.parts:
        judged = judge(arguments.work, arguments.judge_scenes, progress)
        seen = objects_by_level(pipe, [task.scene for task in tasks], judged, OBJECT_LEVELS)
        report["objects_by_level"] = {f"{sigma:g}": shares for sigma, shares in seen.items()}
    if "clips" in arguments.parts:
        asked = coloured(tasks, arguments.colours)
        name = f"{report['model']['weights']}-{arguments.sampler}-{report['sampler']['steps']}"
        name += "" if scale is None else f"-{scale:g}"
        folders = {part: arguments.work / name / part for part in ("clips", "colours", "truth")}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        made = {
            part: generate_clips(pipe, each, SEED, folders[part], progress=_stage(progress, part), settings=given)
            for part, each in (("clips", tasks), ("colours", asked))
        }
        truths = autoencode_truth(pipe, tasks, folders["truth"], _stage(progress, "truth"))
        judged = judge(arguments.work, arguments.judge_scenes, progress)
        balls = [i for i, task in enumerate(tasks) if task.scene.effect == "ball"]
        report["clips"] = len(tasks)
        report["painted"] = as_json(painted(made["clips"], tasks, judged))
        report["scenes"] = as_json(painted(truths, tasks, judged))
        report["colours"] = right_colours(made["colours"], [task.prompt.split()[1] for task in asked])
        report["scene_colours"] = right_colours(
            [truths[i] for i in balls], [tasks[i].scene.parameters["colour"] for i in balls]
        )
        report["ratios"] = ratios(report["painted"], report["scenes"])
    return report


def ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """To the scenes through the autoencoders."""
    return {name: ours[name] / theirs[name] for name in ("fine_detail", "grain_calmest", "grain_events")}


def _stage(progress: Progress, name: str):
    return lambda done, total: progress(name, done, total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--parts", type=lambda text: text.split(","), default=["levels", "clips"], help="levels,objects,clips"
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--sampler", default="euler")
    parser.add_argument("--prompt-scale", type=float, help="`video_prompt_scale` (default: the model's own)")
    parser.add_argument("--clips", type=int, default=8, help="of each effect with an object")
    parser.add_argument("--colours", type=int, default=14, help="balls in an asked colour")
    parser.add_argument("--photos", type=Path, default=Path("../shared/media/images"), help="natural pictures")
    parser.add_argument("--judge-scenes", type=int, default=40, help="of each effect, that the judge learns from")
    parser.add_argument("--work", type=Path, default=Path("runs/painting"), help="where clips and judge are kept")
    arguments = parser.parse_args()
    with hushed(), Progress(quiet=False) as progress:
        report = run(arguments, progress)
    print(json.dumps({name: each for name, each in report.items() if name != "colours"}, indent=1))
    if arguments.json:
        write_json(arguments.json, report)


if __name__ == "__main__":
    main()
