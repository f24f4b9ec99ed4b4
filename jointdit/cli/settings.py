"""What was asked of guidance, sampling, memory and speed, as the library takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..options import SAMPLING, SCALE

if TYPE_CHECKING:
    from ..diffusion.guidance import JointCFG
    from ..pipeline import JointDiTPipeline, SamplingSettings
    from ..runtime.memory import Memory

SCALES = [each.key for each in SAMPLING if each.kind == SCALE]


def guidance_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of the guidance, checked before a model is loaded."""
    from ..diffusion.guidance import JointCFG

    names = {
        "mode": "guidance",
        "interval": "guidance_interval",
        "rescale": "guidance_rescale",
        **{name: name for name in SCALES},
    }
    asked = {name: options.get(key) for name, key in names.items()}
    given = {name: value for name, value in asked.items() if value is not None}
    if "mode" in given:
        JointCFG(**given)
    return given


def sampling_settings(options: Mapping[str, Any], guidance: JointCFG) -> SamplingSettings:
    """What was asked of sampling, under this guidance."""
    from ..diffusion.reuse import Reuse
    from ..diffusion.sync_guidance import SyncGuidance
    from ..pipeline import SamplingSettings

    sync, interval = options.get("sync"), options.get("sync_interval")
    if interval and not sync:
        raise InputError(f"--sync-interval {interval[0]:g}:{interval[1]:g}: goes with --sync only; leave it out")
    reuse, layers = options.get("reuse"), options.get("reuse_layers")
    if layers and not reuse:
        raise InputError(f"--reuse-layers {layers}: goes with --reuse only; leave it out")
    return SamplingSettings().changed(
        steps=options["steps"],
        sampler=options["sampler"],
        guidance=guidance,
        audio_grid=options.get("audio_grid"),
        audio_substeps=options["audio_substeps"],
        video_temperature=options["video_temperature"],
        fresh_noise=options["fresh_noise"],
        isolated=options.get("isolated"),
        sync=SyncGuidance(sync, *([interval] if interval else [])) if sync else None,
        reuse=Reuse(reuse, layers=layers) if reuse else None,
    )


def memory_settings(options: Mapping[str, Any]) -> Memory:
    """The preset that is asked for, with what is asked for besides."""
    from dataclasses import fields, replace

    from ..runtime.memory import PRESETS, Memory

    given = {field.name: options[field.name] for field in fields(Memory) if options.get(field.name) is not None}
    return replace(PRESETS[options["memory"] or "plain"], **given)


def set_speed(pipe: JointDiTPipeline, options: Mapping[str, Any]) -> None:
    """The ways to the same numbers that are asked for."""
    from ..runtime.speed import Speed

    given = {name: options[name] for name in ("compile", "channels_last", "audio_stream") if options[name]}
    if given:
        pipe.set_speed(Speed(**given))
