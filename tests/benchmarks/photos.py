"""Clips of a folder of photos, with and without a prompt: how well the picture is kept, how it moves, how it sounds.

python tests/benchmarks/photos.py ../shared/media/images --json docs/logs/photos.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch

from jointdit import JointDiTPipeline
from jointdit.media import fit_image, read_clip, read_image

PROMPT = "thunderstorm"


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    """Decibels between two uint8 pictures."""
    return round(float(-10 * np.log10(np.mean((one / 255.0 - two / 255.0) ** 2))), 2)


def measure(pipe: JointDiTPipeline, photo: Path, prompt: str | None, seed: int) -> dict[str, float]:
    """One clip, measured as it comes back from its mp4."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        pipe(photo, prompt, generator=torch.Generator().manual_seed(seed)).save(path)
        clip = read_clip(path)
    shape = pipe.shape()
    picture = fit_image(read_image(photo), shape.height, shape.width)
    return {
        "psnr_first_frame": psnr(clip.frames[0], picture),
        "psnr_last_frame": psnr(clip.frames[-1], picture),
        "motion_grey_levels_a_frame": round(float(np.abs(np.diff(clip.frames.astype(float), axis=0)).mean()), 2),
        "loudness_dBFS": round(float(20 * np.log10(np.sqrt(np.mean(clip.audio**2)) + 1e-9)), 1),
        "peak": round(float(np.abs(clip.audio).max()), 3),
    }


@torch.no_grad()
def autoencoder_psnr(pipe: JointDiTPipeline, photo: Path) -> float:
    """What the video autoencoder alone keeps of the picture."""
    shape = pipe.shape()
    picture = fit_image(read_image(photo), shape.height, shape.width)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None, None].float() / 127.5 - 1
    return psnr(pipe.decode_video(pipe.video_codec.encode_video(pixels))[0, 0], picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pipe = JointDiTPipeline.from_pretrained(arguments.model)
    photos = sorted(path for path in arguments.folder.iterdir() if path.suffix == ".jpg")
    found = {}
    for photo in photos:
        found[photo.stem] = {
            "psnr_autoencoder": autoencoder_psnr(pipe, photo),
            "no prompt": measure(pipe, photo, None, arguments.seed),
            PROMPT: measure(pipe, photo, PROMPT, arguments.seed),
        }
        print(photo.stem, json.dumps(found[photo.stem]), flush=True)
    result = {
        "command": f"python tests/benchmarks/photos.py {arguments.folder} --seed {arguments.seed}",
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU",
        "photos": found,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
