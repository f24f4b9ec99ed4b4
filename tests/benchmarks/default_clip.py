"""Time of a default clip by stage, its evaluations and its memory.

    python tests/benchmarks/default_clip.py --json docs/logs/default_clip.json

Seconds depend on the machine and are compared only within one run; evaluations and bytes are held by tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--prompt", default="lightning strikes")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[stage] = round(now - clock, 2)
        clock = now

    import torch

    from jointdit import JointDiTPipeline
    from jointdit.cli.generate import SAMPLE

    lap("import")
    pipe = JointDiTPipeline.from_pretrained(arguments.model)
    lap("load")
    rows = count_rows(pipe)
    generator = torch.Generator().manual_seed(0)
    conditions = pipe.condition([SAMPLE], [arguments.prompt], [None], pipe.shape(), generator)
    lap("condition")
    latents = pipe.sample(conditions, generator=generator)
    lap("sample")
    evaluations = dict(rows)  # and not those of the clip that is written
    pipe.decode_video(latents.video)
    lap("decode video")
    audio = pipe.decode_audio(latents.audio, conditions.shape)
    lap("decode audio")
    clip = pipe(SAMPLE, arguments.prompt, steps=1)
    clock = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        clip.save(Path(folder) / "clip.mp4")
    lap("write")
    seconds["total"] = round(sum(seconds.values()), 2)
    result = {
        "command": f"python tests/benchmarks/default_clip.py --model {arguments.model}",
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU, {torch.get_num_threads()} threads",
        "clip": {"frames": clip.frames.shape[0], "fps": str(clip.fps), "samples": audio.shape[-1]},
        "seconds": seconds,
        "evaluations": evaluations,
        "peak_memory_GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "weights_MB": round(sum(p.stat().st_size for p in weights(arguments.model)) / 1e6, 1),
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def count_rows(pipe) -> dict[str, int]:
    """Samples that each part of the model evaluates, counted by hooks; changes as the model runs."""
    model = pipe.model
    found = {"video In": 0, "video": 0, "audio": 0}

    def hook(name: str, rows_per_sample: int):
        def add(module, inputs, output) -> None:
            found[name] += output.shape[0] // rows_per_sample

        return add

    frames = pipe.shape().frames
    model.video_unet.conv_in.register_forward_hook(hook("video In", frames))
    model.video_unet.conv_out.register_forward_hook(hook("video", frames))
    model.audio_unet.conv_out.register_forward_hook(hook("audio", 1))
    return found


def weights(model: str) -> list[Path]:
    from jointdit.checkpoints.folders import resolve

    return list(resolve(model).rglob("*.safetensors"))


if __name__ == "__main__":
    main()
