"""The graph that makes a clip of the page in ComfyUI, in its API's format, for `jointdit run-workflow`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cli.making import Maker
from ..cli.settings import guidance_options, memory_settings
from ..diffusion.modes import PROMPT

UNBOUNDED = 1000.0  # above every video sigma
OWN_BLOCKS, IDENTITY, NO_ADAPTERS, NO_LORA = "model's own", "none (identity)", "none (experts unchanged)", "none"
AS_THEY_ARE, EIGHT_BITS = "as they are", "eight bits"
# Options that change the clip and that no node has.
LEFT_OUT = "isolated sync-interval gain loudness expert-frames audio-heads video-pool".split()
# Nor that of a retake.
RETAKE_LEFT_OUT = "audio-grid audio-substeps video-temperature fresh-noise sync reuse reuse-layers".split()


def left_out(texts: Mapping[str, str]) -> list[str]:
    """Options that were given and that the graph has no place for."""
    unknown = [*LEFT_OUT, *(RETAKE_LEFT_OUT if "retake" in texts else ())]
    if "video-expert" not in texts:
        unknown.append("float8")  # JointDiT Load Experts alone has it
    return [name for name in texts if name in unknown]


def workflow(options: Mapping[str, Any], names: Mapping[str, str], maker: Maker) -> str:
    """The graph.

    options: of `jointdit generate`.    names: of the given files, as the user knows them.    maker: of the clip.
    """
    if options["retake"]:
        return _retake(options, names, maker)
    graph: dict[str, dict[str, Any]] = {
        "1": _loader(options),
        "2": _node("Condition", model=["1", 0], **_conditions(options)),
        "3": _node("Sample", model=["1", 0], conditions=["2", 0], **_sampling(options)),
        "4": _decoded_video(options),
        "5": _node("DecodeAudio", model=["1", 0], audio=["3", 1]),
        "6": _node("Mux", images=["4", 0], audio=["5", 0], fps=["2", 1]),
        "7": _saved(["6", 0]),
    }
    if guidance_options(options):
        graph["8"] = _guidance(maker)
        graph["3"]["inputs"]["guidance"] = ["8", 0]
    if options["image"]:
        graph["9"] = _stock("LoadImage", image=names.get("image", ""))
        graph["2"]["inputs"]["image"] = ["9", 0]
    if options["audio"]:
        graph["10"] = _stock("LoadAudio", audio=names["audio"])
        graph["2"]["inputs"]["audio"] = graph["6"]["inputs"]["audio"] = ["10", 0]
        del graph["5"]  # the sound is kept as it is
    if options["video"]:
        graph["11"] = _stock("LoadVideo", file=names["video"])
        given = ["11", 0]
        if options["frames"]:
            seconds = float(options["frames"] / maker.shape.fps)
            graph["12"] = _stock("Video Slice", video=given, start_time=0.0, duration=seconds, strict_duration=False)
            given = ["12", 0]
        graph["2"]["inputs"]["video"] = given
        graph["4"] = _stock("GetVideoComponents", video=given)  # its frames are kept as they are
        graph["6"]["inputs"]["fps"] = ["4", 2]
    return json.dumps(graph, indent=2)


def _retake(options: Mapping[str, Any], names: Mapping[str, str], maker: Maker) -> str:
    """The graph of a part that is made anew."""
    start, stop = options["retake"]
    graph: dict[str, dict[str, Any]] = {
        "1": _loader(options),
        "2": _stock("LoadVideo", file=names["video"]),
        "3": _node(
            "Retake",
            model=["1", 0],
            video=["2", 0],
            start=start,
            stop=stop,
            what=options["retake_only"] or "both",
            prompt=options["prompt"] or "",
            negative_prompt=options["negative_prompt"] or "",
            seed=options["seed"],
            steps=options["steps"] or 0,
            sampler=options["sampler"] or "euler",
        ),
        "4": _saved(["3", 0]),
    }
    if guidance_options(options):
        graph["5"] = _guidance(maker)
        graph["3"]["inputs"]["guidance"] = ["5", 0]
    return json.dumps(graph, indent=2)


def _saved(video: list[Any]) -> dict[str, Any]:
    return _stock(
        "SaveVideo",
        video=video,
        filename_prefix="JointDiT",
        format="auto",
        **{"format.codec": "auto"},
        codec="auto",
    )


def _loader(options: Mapping[str, Any]) -> dict[str, Any]:
    """By the names that ComfyUI knows models by: those of their folders and files."""
    joint = options["joint"]
    common = {
        "precision": options["dtype"] or "float32",
        "adapters": Path(options["adapters"]).name if options["adapters"] else NO_ADAPTERS,
        "video_lora": Path(options["video_lora"]).name if options["video_lora"] else NO_LORA,
        "lora_strength": 1.0 if options["lora_strength"] is None else options["lora_strength"],
    }
    if options["video_expert"]:
        blocks = Path(joint).name if joint and str(joint) != "identity" else IDENTITY
        experts = {name: Path(options[name]).name for name in ("video_expert", "audio_expert")}
        weights = EIGHT_BITS if options["float8"] else AS_THEY_ARE
        return _node("LoadExperts", **experts, joint_blocks=blocks, weights=weights, **common)
    blocks = OWN_BLOCKS if not joint else IDENTITY if str(joint) == "identity" else Path(joint).name
    return _node("LoadModel", model=Path(options["model"] or "tiny").name, joint_blocks=blocks, **common)


def _conditions(options: Mapping[str, Any]) -> dict[str, Any]:
    width, height = options["size"] or (0, 0)
    augmentation = options["noise_augmentation"]
    return {
        "prompt": options["prompt"] or "",
        "negative_prompt": options["negative_prompt"] or "",
        "width": width,
        "height": height,
        "frames": 0 if options["video"] else options["frames"] or 0,
        "fps": float(options["fps"] or 0),
        "fit": options["fit"] or "cover",
        "motion_bucket": round(options["motion_bucket"] or 0),
        "noise_augmentation": -1.0 if augmentation is None else augmentation,
        "picture_seed": options["seed"],
        "window": options["window"] or 0,
        "overlap": options["overlap"] or 0,
    }


def _sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    temperature, fresh = options["video_temperature"], options["fresh_noise"]
    return {
        "seed": options["seed"],
        "steps": options["steps"] or 0,
        "sampler": options["sampler"] or "euler",
        "audio_substeps": options["audio_substeps"] or 0,
        "audio_grid": options["audio_grid"] or "model's own",
        "video_temperature": -1.0 if temperature is None else temperature,
        "fresh_noise": -1.0 if fresh is None else fresh,
        "sync": options["sync"] or 0.0,
        "clips": 1,
        "reuse": options["reuse"] or 1,
        "reuse_layers": options["reuse_layers"] or 0,
    }


def _guidance(maker: Maker) -> dict[str, Any]:
    """As it holds: with the model's own scales where none was given."""
    guidance = maker.settings.guidance
    assert guidance is not None
    low, high = guidance.interval or (0.0, UNBOUNDED)
    return _node(
        "JointCFG",
        mode=guidance.mode,
        **{f"mode.{name}": value for name, value in guidance.scales.items() if name not in PROMPT},
        sigma_low=low,
        sigma_high=high,
        rescale=-1.0 if guidance.rescale is None else guidance.rescale,
        video_prompt_scale=guidance.scales.get("video_prompt_scale", -1.0),
    )


def _decoded_video(options: Mapping[str, Any]) -> dict[str, Any]:
    chunk = memory_settings(options).decode_chunk
    return _node("DecodeVideo", model=["1", 0], video=["3", 0], chunk_size=chunk, overlap=0)


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return _stock(f"JointDiT{kind}", **inputs)


def _stock(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}
