"""A test set for other programs: the commands that measure it with them."""

from __future__ import annotations

from collections.abc import Callable
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


def kadtk_commands(made: PairedSet) -> list[str]:
    """Lines of a shell script that runs github.com/YoonjinXD/kadtk on each sample: FAD of VGGish's features, and KAD of
    PANNs', as published."""
    lines = ["#!/bin/sh", "# Run it where kadtk is installed, as its own page says.", "set -e"]
    reference = _shell(made.folder.absolute() / REFERENCE / "audio")
    for sample in range(made.samples):
        ours = _shell(made.folder.absolute() / sample_folder(sample) / "audio")
        lines += [f"kadtk vggish {reference} {ours} --fad", f"kadtk panns-wavegram-logmel {reference} {ours}"]
    return lines


def cd_fvd_script(made: PairedSet) -> list[str]:
    """Lines of a Python script that computes FVD of I3D's features, of all frames of all clips, with cd-fvd (the
    repository content-debiased-fvd of github.com/songweige)."""
    folder = made.folder.absolute()
    side = min(map(int, made.settings["size"].split("x")))
    samples = [str(folder / sample_folder(sample) / "video") for sample in range(made.samples)]
    return [
        "# Run it where cd-fvd is installed, as its own page says.",
        "from cdfvd import fvd",
        "",
        f"REFERENCE = {str(folder / REFERENCE / 'video')!r}",
        f"SHAPE = dict(data_type='video_folder', resolution={side}, sequence_length={made.settings['frames']})",
        "",
        "if __name__ == '__main__':",
        f"    for sample in {samples!r}:",
        "        evaluator = fvd.cdfvd('i3d', n_real='full', n_fake='full')",
        "        real = evaluator.load_videos(REFERENCE, **SHAPE)",
        "        made = evaluator.load_videos(sample, **SHAPE)",
        "        evaluator.compute_real_stats(real)",
        "        evaluator.compute_fake_stats(made)",
        "        print(sample, 'FVD', evaluator.compute_fvd_from_stats())",
    ]


# By name: the file, and its lines.
EXPORTS: dict[str, tuple[str, Callable[[PairedSet], list[str]]]] = {
    "av-benchmark": ("av-benchmark.sh", av_benchmark_commands),
    "kadtk": ("kadtk.sh", kadtk_commands),
    "cd-fvd": ("cd-fvd.py", cd_fvd_script),
}


def _shell(path: Path) -> str:
    return quote(str(path))
