"""`jointdit evaluate`: measures of a model, or of a folder of clips."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .generate import OPTIONS as GENERATE
from .generate import guidance_options, sampling_settings
from .models import EXPERTS, check_model, choose_device, load_model
from .options import Option, add_options, one_of, read_files, read_options, whole

if TYPE_CHECKING:
    import numpy as np

    from ..evaluate import AlignScores
    from ..media import Clip
    from .progress import Progress

SHARED = (
    "model video-expert audio-expert expert-frames joint adapters audio-heads seed steps frames fps size guidance "
    "video-scale audio-scale joint-scale sampler video-temperature fresh-noise audio-substeps device dtype"
).split()
OF_FOLDERS, OF_BOTH = ("folder", "match", "reference"), ("json", "plot", "plots")
CLIPS, BATCH, JUDGE_SCENES = 20, 4, 30

OPTIONS = (
    Option("folder", "FOLDER", Path, "folder of sounding videos, measured without any truth", positional=True),
    Option("match", "GLOB", str, "with FOLDER: only files whose names match, for example 'joint_*'"),
    Option("reference", "DIR", Path, "with FOLDER: videos as they should be, to measure the distance from"),
    Option("clips", "N", whole(2, 100_000), f"with --model: how many clips, the effects in turn (default {CLIPS})"),
    Option("effect", "NAME", str, "with --model: only this effect; a wrong name lists them all"),
    Option(
        "prompts",
        "KIND",
        one_of("captions", "unseen", "fresh", "none"),
        "with --model: captions of scenes (default), words that no caption has (unseen, fresh), none: the picture asks",
    ),
    Option("photos", "DIR", Path, "with --model: folder of pictures to use instead of drawn textures"),
    Option("batch", "N", whole(1, 1024), f"with --model: clips that are generated at once (default {BATCH})"),
    Option(
        "judge-scenes",
        "N",
        whole(2, 1000),
        f"with --model: scenes of each effect that judges learn from (default {JUDGE_SCENES})",
    ),
    Option("keep", "DIR", Path, "with --model: keep the clips there; a second run resumes"),
    Option("json", "FILE", Path, "write all scores there"),
    Option("plot", "FILE", Path, "write a PNG of the scores against shuffled pairs there"),
    Option("plots", "DIR", Path, "write the sync plot of each clip there, as PNG"),
    *(option for option in GENERATE if option.name in SHARED),
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = (
        "Measure a folder of clips (do picture and sound belong together?), or with --model a model on pictures and "
        "captions of synthetic scenes (sync of events, the effect that was asked for, how well the picture stays)."
    )
    parser = commands.add_parser("evaluate", help="measure clips, or a model", description=text, allow_abbrev=False)
    add_options(parser, OPTIONS)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Checks what can be checked, measures, writes what was asked for, and prints a table."""
    options = read_options(OPTIONS, arguments)
    if (options["folder"] is None) == (not any(options[name] for name in ("model", *EXPERTS))):
        raise InputError("name either a FOLDER of clips or a --model, for example: jointdit evaluate --model tiny")
    check_model(options)
    for option in OPTIONS:
        theirs = option.name in OF_FOLDERS
        if options[option.key] is not None and option.name not in OF_BOTH and theirs == (options["folder"] is None):
            raise InputError(f"{option.shown} goes with {'a FOLDER' if theirs else '--model'} only; leave it out")

    from ..media.files import refuse_sources, target_file, write_json

    read = [*read_files(options), *_in_folders(options)]
    for name in ("json", "plot"):
        if options[name]:
            target_file(options[name])
            refuse_sources(options[name], read)

    from .progress import Progress, hushed

    with nullcontext() if arguments.debug else hushed(), Progress(arguments.quiet) as progress:
        if options["folder"]:
            report, lines = _folder(options, progress)
        else:
            report, lines = _model(options, progress)
    if options["json"]:
        write_json(options["json"], report)
    print("\n".join(lines))


def _in_folders(options: Mapping[str, Any]) -> Iterator[Path]:
    """Files in the folders that are measured or read, among them what `jointdit synth` writes beside its videos."""
    from ..media import VIDEO_SUFFIXES
    from ..synthetic.dataset import PHOTO_SUFFIXES

    for name, suffixes in (("folder", VIDEO_SUFFIXES), ("reference", VIDEO_SUFFIXES), ("photos", PHOTO_SUFFIXES)):
        for path in options[name].glob("*") if options[name] else ():
            if path.suffix.lower() in suffixes:
                yield from (path, path.with_suffix(".json"))


def _folder(options: Mapping[str, Any], progress: Progress) -> tuple[dict[str, Any], list[str]]:
    from ..evaluate.folder import score_folder
    from ..evaluate.report import as_json, folder_lines

    scores = score_folder(
        options["folder"],
        options["match"] or "*",
        options["reference"],
        progress,
        lambda path, clip: _plot_clip(options["plots"], path.name, clip),
    )
    _plot_margins(options["plot"], scores.align, options["folder"].name)
    named = {name: str(options[name]) for name in ("folder", "match", "reference") if options[name]}
    return {**named, **as_json(scores)}, list(folder_lines(scores))


def _model(options: Mapping[str, Any], progress: Progress) -> tuple[dict[str, Any], list[str]]:
    import torch

    from ..evaluate.align import Curves, align_clips
    from ..evaluate.effects import train_judges
    from ..evaluate.generated import autoencode_truth, autoencoded, draw_tasks, generate_clips, score_clips
    from ..evaluate.report import align_lines, as_json, model_lines
    from ..pipeline.settings import chosen
    from ..synthetic import EFFECTS

    if options["effect"] not in (None, *EFFECTS):
        raise InputError(f"--effect {options['effect']}: must be one of {', '.join(EFFECTS)}")
    photos, prompts = _photos(options["photos"]), options["prompts"] or "captions"
    device, asked = choose_device(options["device"]), guidance_options(options)
    dtype = getattr(torch, options["dtype"] or "float32")
    pipe = load_model(options, dtype)
    pipe.to(device)
    guidance = pipe.guidance.changed(**asked)
    sampling = sampling_settings(options, guidance)
    grid = pipe.grid(sampling)
    width, height = options["size"] or (None, None)
    shape = pipe.shape(options["frames"], options["fps"], height, width)
    count, seed, batch = options["clips"] or CLIPS, options["seed"] or 0, options["batch"] or BATCH
    settings = {
        "model": options["model"],
        "joint": str(options["joint"]) if options["joint"] else None,
        "clips": count,
        "seed": seed,
        "effect": options["effect"],
        "prompts": prompts,
        "photos": str(options["photos"]) if options["photos"] else None,
        "frames": shape.frames,
        "fps": str(shape.fps),
        "size": f"{shape.width}x{shape.height}",
        "guidance": guidance.mode,
        "scales": guidance.scales,
        "steps": grid.steps,
        "audio_substeps": grid.substeps,
        "video_temperature": chosen(sampling.video_temperature, pipe.defaults.video_temperature),
        "fresh_noise": chosen(sampling.fresh_noise, pipe.defaults.fresh_noise),
        "sampler": sampling.sampler,
        "dtype": options["dtype"] or "float32",
    } | {name: str(options[name]) for name in (*EXPERTS, "audio_heads", "adapters") if options[name]}
    tasks = draw_tasks(
        count,
        seed,
        shape,
        [options["effect"]] if options["effect"] else EFFECTS,
        prompts,
        photos,
        lambda done, total: progress("scenes", done, total),
    )
    with _clip_folder(options["keep"], settings) as folder:
        clips = generate_clips(
            pipe,
            tasks,
            seed,
            folder,
            batch,
            lambda done, total: progress("clips", done, total),
            shape,
            sampling,
        )
        truth = folder / "truth"
        truth.mkdir(exist_ok=True)
        truths = autoencode_truth(pipe, tasks, truth, lambda done, total: progress("truth", done, total))
    scenes = options["judge_scenes"] or JUDGE_SCENES
    judges = train_judges(
        train=scenes,
        held_out=max(1, scenes // 4),
        autoencode=lambda clip: autoencoded(pipe, clip),
        progress=lambda done, total: progress("judges", done, total),
    )
    for index, (task, clip) in enumerate(zip(tasks, clips, strict=True)):
        _plot_clip(options["plots"], f"{index:06d} {task.scene.effect}", clip)
    scores, align = score_clips(tasks, clips, truths, judges), align_clips([Curves.of(clip) for clip in clips])
    _plot_margins(options["plot"], align, options["model"])
    report = {**settings, **as_json(scores), "align": as_json(align)}
    return report, [*model_lines(scores), *align_lines(align)]


def _photos(folder: Path | None) -> list[np.ndarray]:
    from ..media import read_image
    from ..synthetic.dataset import PHOTO_SUFFIXES
    from .progress import hushed_decoders

    if folder is None:
        return []
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not files:
        raise InputError(f"--photos {folder}: no picture there; give a folder with {', '.join(PHOTO_SUFFIXES)} files")
    with hushed_decoders():
        return [read_image(path) for path in files]


@contextmanager
def _clip_folder(keep: Path | None, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Where the clips go. A kept folder remembers what it was made with, and is refused for anything else."""
    if keep is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    from ..media.files import write_json

    made_with = keep / "settings.json"
    wanted = json.loads(json.dumps({**settings, "clips": None}))  # more clips of the same kind may be added
    if not made_with.exists():
        write_json(made_with, wanted)
    elif _read_json(made_with) != wanted:
        raise InputError(f"--keep {keep}: its clips were made with other settings; name another folder")
    yield keep


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); name another folder") from error


def _plot_clip(folder: Path | None, name: str, clip: Clip) -> None:
    from ..evaluate.plot import draw_sync, write_png

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_png(folder / f"{name}.png", draw_sync(clip, name))


def _plot_margins(path: Path | None, align: AlignScores, title: str) -> None:
    from ..evaluate.plot import draw_margins, write_png

    if path is not None:
        scores = {"onset alignment": align.onset_align, "motion, loudness": align.motion_loudness}
        write_png(path, draw_margins(scores, f"{title}: {align.clips} clips"))
