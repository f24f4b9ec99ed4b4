"""`jointdit evaluate`: measures of a model, or of a folder of clips."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets.splits import SPLITS
from ..errors import InputError
from .cache import part
from .evaluate_scenes import clip_folder, read_photos
from .evaluate_sets import (
    Results,
    add_comparison,
    caption_of,
    find_test_recordings,
    generate,
    load_extractors,
    measure_test_set,
    write_export,
)
from .generate import OPTIONS as GENERATE
from .models import DEFAULT_MODEL, EXPERTS, check_model, choose_device, load_model
from .options import Option, add_options, one_of, read_files, read_options, whole
from .settings import guidance_options, sampling_settings

if TYPE_CHECKING:
    from ..evaluate import AlignScores
    from ..evaluate.align import Curves
    from ..evaluate.measures import Observation
    from ..evaluate.page import Page
    from ..media import Clip
    from ..pipeline import JointDiTPipeline, SamplingSettings
    from .progress import Progress

SHARED = (
    "model video-expert audio-expert expert-frames joint adapters video-lora lora-strength audio-heads seed steps "
    "frames fps size guidance video-scale audio-scale joint-scale sampler video-temperature fresh-noise reuse "
    "reuse-layers audio-substeps device dtype"
).split()
OF_FOLDERS = ("folder", "match", "reference")
OF_SETS = ("videos", "layout", "split", "limit", "places", "samples", "part")  # --generate
OF_CLIPS = ("features", "against", "export")
OF_BOTH = ("json", "markdown", "page", "plot", "plots", "device", *OF_CLIPS)
OF_SCENES = ("clips", "effect", "photos", "judge_scenes", "keep", "plot")
CLIPS, BATCH, JUDGE_SCENES = 20, 4, 30
PROGRAMS = ("av-benchmark", "kadtk", "cd-fvd")

OPTIONS = (
    Option("folder", "FOLDER", Path, "folder of sounding videos, or one that --generate made", positional=True),
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
    Option(
        "generate",
        "DIR",
        Path,
        "make the model's clips on the first pictures of --videos, in DIR, and measure them; a second run resumes",
    ),
    Option("videos", "DIR", Path, "with --generate: folder of a test set"),
    Option("layout", "NAME", str, "with --generate: of the test set, as in jointdit cache"),
    Option("split", "NAME", one_of(*SPLITS), "with --generate: part of a published set (default test)"),
    Option("limit", "N", whole(2, 10**9), "with --generate: at most N recordings, drawn by their names"),
    Option("places", "N", whole(1, 100), "with --generate: clips of each recording, evenly spread (default its start)"),
    Option("samples", "N", whole(1, 1000), "with --generate: clips of each picture (default 1)"),
    Option("part", "K/N", part, "with --generate: only make the K-th of N shares, K from 0 on; nothing is measured"),
    Option(
        "features",
        "DIR",
        Path,
        "folder of a network (VideoMAE, CLIP, CLAP, ...) whose features are measured, or of several",
    ),
    Option("against", "DIR", Path, "clips of another model on the same pictures, to compare with"),
    Option("export", "NAME", one_of(*PROGRAMS), f"of a test set: write the commands for {', '.join(PROGRAMS)}"),
    Option("json", "FILE", Path, "write all scores there"),
    Option("markdown", "FILE", Path, "write the tables there"),
    Option("page", "FILE", Path, "write tables and plots there, as one HTML file"),
    Option("plot", "FILE", Path, "write a PNG of the scores against shuffled pairs there"),
    Option("plots", "DIR", Path, "write the sync plot of each clip there, as PNG"),
    *(option for option in GENERATE if option.name in SHARED),
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = (
        "Measure a folder of clips (do picture and sound belong together?), or with --model a model on pictures and "
        "captions of synthetic scenes (sync of events, the effect that was asked for, how well the picture stays), or "
        "with --generate on the first pictures of a test set, beside what was recorded."
    )
    parser = commands.add_parser("evaluate", help="measure clips, or a model", description=text, allow_abbrev=False)
    add_options(parser, OPTIONS)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Checks what can be checked, measures, writes what was asked for, and prints a table."""
    options = read_options(OPTIONS, arguments)
    _check(options)

    from ..media.files import refuse_sources, target_file

    read = [*read_files(options), *_in_folders(options)]
    for name in ("json", "plot", "markdown", "page"):
        if options[name]:
            target_file(options[name])
            refuse_sources(options[name], read)

    from .progress import Progress, hushed

    with nullcontext() if arguments.debug else hushed(), Progress(arguments.quiet) as progress:
        results = Results(_page(options))
        if options["generate"] or _is_test_set(options["folder"]):
            if _test_set(options, results, progress):
                facts = results.report["settings"] | {"networks": results.report["networks"]}
                results.write(options, facts)
        elif options["folder"]:
            _folder(options, results, progress)
            results.write(options, {name: results.report.get(name) for name in (*OF_FOLDERS, "networks", "against")})
        else:
            results.write(options, _model(options, results, progress))
    print("\n".join(results.lines))


def _in_folders(options: Mapping[str, Any]) -> Iterator[Path]:
    """Files in the folders that are measured or read, among them what `jointdit synth` writes beside its videos."""
    from ..media import VIDEO_SUFFIXES
    from ..synthetic.dataset import PHOTO_SUFFIXES

    for name, suffixes in (("folder", VIDEO_SUFFIXES), ("reference", VIDEO_SUFFIXES), ("photos", PHOTO_SUFFIXES)):
        for path in options[name].glob("*") if options[name] else ():
            if path.suffix.lower() in suffixes:
                yield from (path, path.with_suffix(".json"))


def _check(options: Mapping[str, Any]) -> None:
    """What goes with what."""
    models = [name for name in ("model", *EXPERTS) if options[name]]
    if options["generate"]:
        if options["videos"] is None:
            raise InputError("--videos is missing; name the folder of the test set that --generate takes pictures of")
        if options["folder"]:
            raise InputError(f"FOLDER {options['folder']} and --generate: give one of them")
        for name in (*OF_CLIPS, "json", "markdown", "page", "plots"):
            if options["part"] and options[name]:
                raise InputError(f"--part makes a share of the clips and measures nothing; leave --{name} out")
        if options["prompts"] not in (None, "captions", "none"):
            raise InputError(f"--prompts {options['prompts']}: with --generate it is captions, or none (the default)")
    elif (options["folder"] is None) == (not models):
        raise InputError("name either a FOLDER of clips or a --model, for example: jointdit evaluate --model tiny")
    check_model(options)
    for option in OPTIONS:
        if options[option.key] is None or option.name == "generate":
            continue
        if options["generate"]:
            if option.key in (*OF_SCENES, *OF_FOLDERS):
                raise InputError(f"{option.shown} does not go with --generate; leave it out")
            continue
        if option.key in OF_SETS:
            raise InputError(f"{option.shown} goes with --generate only; leave it out")
        theirs = option.name in OF_FOLDERS
        if option.name not in OF_BOTH and theirs == (options["folder"] is None):
            raise InputError(f"{option.shown} goes with {'a FOLDER' if theirs else '--model'} only; leave it out")
        if option.name in OF_CLIPS and options["folder"] is None:
            raise InputError(f"{option.shown} goes with a FOLDER or with --generate; leave it out")


def _is_test_set(folder: Path | None) -> bool:
    from ..evaluate.paired_set import MANIFEST

    return folder is not None and (folder / MANIFEST).is_file()


def _page(options: Mapping[str, Any]) -> Page | None:
    from ..evaluate.page import Page

    if options["page"] is None:
        return None
    named = options["generate"] or options["folder"] or options["model"] or options["video_expert"]
    return Page(Path(named).name)


def _test_set(options: Mapping[str, Any], results: Results, progress: Progress) -> bool:
    """Makes it, measures it, or both. Whether it was measured."""
    from ..evaluate.paired_set import PairedSet

    extractors, against = load_extractors(options), options["against"] and PairedSet.read(options["against"])
    if options["generate"]:
        recordings = find_test_recordings(options)
        made = generate(options, recordings, *_load(options), progress)
        if options["part"]:
            number, count = options["part"]
            results.lines.append(f"{made.folder}: part {number} of {count} is made; measure all: jointdit evaluate DIR")
            return False
    else:
        for name in ("match", "reference", "plot"):
            if options[name]:
                raise InputError(f"--{name} does not go with a test set, which has its own; leave it out")
        made = PairedSet.read(options["folder"])
    if options["export"]:
        results.lines.append(f"{write_export(made, options['export'])}: the commands of {options['export']}")
    measure_test_set(
        made, extractors, against, results, progress, lambda name, clip: _plot_clip(options, results, name, clip)
    )
    return True


def _folder(options: Mapping[str, Any], results: Results, progress: Progress) -> None:
    from ..evaluate.folder import clip_files, score_folder
    from ..evaluate.measures import measure_set, observe_clip, recordings_of, tabulate
    from ..evaluate.report import as_json, folder_lines

    if options["export"]:
        raise InputError(f"--export {options['export']}: {options['folder']} is no test set; make one with --generate")
    extractors = load_extractors(options)
    clips: list[Observation] = []
    reference: list[Observation] = []

    def observe(path: Path, clip: Clip, curves: Curves | None, into: list[Observation]) -> None:
        into.append(observe_clip(clip, path.stem, path.stem, caption_of(path), extractors, curves, path))

    def each(path: Path, clip: Clip, curves: Curves) -> None:
        observe(path, clip, curves, clips)
        _plot_clip(options, results, path.name, clip)

    scores = score_folder(
        options["folder"],
        options["match"] or "*",
        options["reference"],
        progress,
        each,
        lambda path, clip, curves: observe(path, clip, curves, reference),
    )
    _plot_margins(options["plot"], scores.align, options["folder"].name)
    named = {name: str(options[name]) for name in ("folder", "match", "reference") if options[name]}
    networks = [extractor.describe() for extractor in extractors]
    results.report |= {**named, **as_json(scores), "networks": networks}
    results.lines += folder_lines(scores)
    recordings = recordings_of(clips, reference)
    results.add_table(tabulate(measure_set(clips, reference, recordings, extractors), len(recordings)))
    if options["against"]:
        from ..evaluate.folder import MAX_SECONDS
        from ..media import read_clip

        theirs: list[Observation] = []
        for path in clip_files(options["against"], options["match"] or "*"):
            observe(path, read_clip(path, max_seconds=MAX_SECONDS), None, theirs)
        add_comparison(results, clips, theirs, reference, extractors, options["against"].name)
    results.notes += [scores.note] if scores.note else []


def _load(options: Mapping[str, Any]) -> tuple[JointDiTPipeline, SamplingSettings, dict[str, Any]]:
    """The model, how it is to sample, and all of that as a result names it."""
    import torch

    from ..pipeline.settings import chosen

    device, asked = choose_device(options["device"]), guidance_options(options)
    pipe = load_model(options, getattr(torch, options["dtype"] or "float32"))
    pipe.to(device)
    guidance = pipe.guidance.changed(**asked)
    sampling = sampling_settings(options, guidance)
    grid = pipe.grid(sampling)
    width, height = options["size"] or (None, None)
    shape = pipe.shape(options["frames"], options["fps"], height, width)
    settings = {
        "model": options["model"] or (None if options["video_expert"] else DEFAULT_MODEL),
        "joint": str(options["joint"]) if options["joint"] else None,
        "clips": options["clips"] or CLIPS,
        "seed": options["seed"] or 0,
        "effect": options["effect"],
        "prompts": options["prompts"] or "captions",
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
    } | {
        name: str(options[name])
        for name in (*EXPERTS, "audio_heads", "adapters", "video_lora", "lora_strength", "reuse", "reuse_layers")
        if options[name]
    }
    return pipe, sampling, settings


def _model(options: Mapping[str, Any], results: Results, progress: Progress) -> dict[str, Any]:
    """On synthetic scenes. The settings."""
    from ..evaluate.align import Curves, align_clips
    from ..evaluate.effects import train_judges
    from ..evaluate.generated import autoencode_truth, autoencoded, draw_tasks, generate_clips, score_clips
    from ..evaluate.report import align_lines, as_json, model_lines, model_rows
    from ..synthetic import EFFECTS

    if options["effect"] not in (None, *EFFECTS):
        raise InputError(f"--effect {options['effect']}: must be one of {', '.join(EFFECTS)}")
    photos = read_photos(options["photos"])
    pipe, sampling, settings = _load(options)
    width, height = options["size"] or (None, None)
    shape = pipe.shape(options["frames"], options["fps"], height, width)
    tasks = draw_tasks(
        settings["clips"],
        settings["seed"],
        shape,
        [options["effect"]] if options["effect"] else EFFECTS,
        settings["prompts"],
        photos,
        lambda done, total: progress("scenes", done, total),
    )
    with clip_folder(options["keep"], settings) as folder:
        clips = generate_clips(
            pipe,
            tasks,
            settings["seed"],
            folder,
            options["batch"] or BATCH,
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
        _plot_clip(options, results, f"{index:06d} {task.scene.effect}", clip)
    scores, align = score_clips(tasks, clips, truths, judges), align_clips([Curves.of(clip) for clip in clips])
    _plot_margins(options["plot"], align, options["model"] or Path(options["video_expert"]).name)
    results.report |= {**settings, **as_json(scores), "align": as_json(align)}
    results.lines += [*model_lines(scores), *align_lines(align)]
    results.add_table(model_rows(scores))
    return settings


def _plot_clip(options: Mapping[str, Any], results: Results, name: str, clip: Clip) -> None:
    from ..evaluate.plot import draw_sync, write_png

    folder, page = options["plots"], results.page
    if folder is None and page is None:
        return
    picture = draw_sync(clip, name)
    if page is not None:
        page.add_plot(name, picture)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_png(folder / f"{name}.png", picture)


def _plot_margins(path: Path | None, align: AlignScores, title: str) -> None:
    from ..evaluate.plot import draw_margins, write_png

    if path is not None:
        scores = {"onset alignment": align.onset_align, "motion, loudness": align.motion_loudness}
        write_png(path, draw_margins(scores, f"{title}: {align.clips} clips"))
