"""A test set for other programs: the commands that measure it with them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from shlex import quote

from .paired_set import CAPTIONS, REFERENCE, PairedSet, sample_folder

IMAGEBIND_SECONDS, SYNCHFORMER_SECONDS = 4.0, 4.8  # av-benchmark cannot take shorter videos for these networks


def av_benchmark_commands(made: PairedSet) -> list[str]:
    """Lines of a shell script that runs github.com/hkchengrex/av-benchmark, from its folder, on each sample.

    It pairs files by name: WAV files of what was recorded and of what was made, and videos of what was made, because it
    is those that the sounds have to go with.
    """
    folder = made.folder.absolute()
    seconds = float(made.settings["frames"] / Fraction(made.settings["fps"]))
    with_videos = seconds >= SYNCHFORMER_SECONDS
    lines = [
        "#!/bin/sh",
        "# Run it in a clone of av-benchmark, installed as its own page says.",
        "set -e",
    ]
    if not with_videos:
        lines.append(
            f"# The clips last {seconds:g} s. Its image-audio score takes {IMAGEBIND_SECONDS:g} s and DeSync "
            f"{SYNCHFORMER_SECONDS:g} s, so both are left out."
        )
    for sample in range(made.samples):
        ours = folder / sample_folder(sample)
        truth, cache, result = folder / REFERENCE / "audio", ours / "av-benchmark-reference", ours / "av-benchmark"
        length = f"--audio_length {seconds:g}"
        if with_videos:
            lines.append(
                f"python extract_video.py --gt_cache {_shell(cache)} --video_path {_shell(ours / 'video')} {length}"
            )
        lines += [
            f"python extract_text.py --text_csv {_shell(folder / CAPTIONS)} --output_cache_path {_shell(cache)}",
            f"python evaluate.py --gt_audio {_shell(truth)} --gt_cache {_shell(cache)} "
            f"--pred_audio {_shell(ours / 'audio')} --pred_cache {_shell(result)} {length}"
            + ("" if with_videos else " --skip_video_related"),
        ]
    return lines


def _shell(path: Path) -> str:
    return quote(str(path))
