"""A model's clips on the pictures of a test set: files that pair, runs that go on, and one table for all."""

from __future__ import annotations

import ast
import csv
import json
import re
import shlex
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sounding_videos import video
from tiny_extractors import write_all
from tiny_models import write_experts

from jointdit import JointDiTPipeline
from jointdit.checkpoints.folders import BUNDLED
from jointdit.cli import main
from jointdit.cli.evaluate import PROGRAMS
from jointdit.cli.evaluate_sets import write_export
from jointdit.datasets.recordings import find_recordings
from jointdit.datasets.takes import take_clips
from jointdit.evaluate.paired_set import PairedSet, seed_of
from jointdit.media import read_clip

SHAPE = ["--frames", "6", "--size", "32x32", "--steps", "2", "--audio-substeps", "1", "--quiet"]
NAMES = ["bell__a", "bell__b", "rain__c"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    for name in ("bell/a", "bell/b", "rain/c", "rain/d", "rain/short"):
        video(folder / "videos" / f"{name}.mp4", seconds=0.3 if "short" in name else 0.7)
    (folder / "train.txt").write_text("rain/d.mp4\n")
    (folder / "test.txt").write_text("bell/a.mp4\nbell/b.mp4\nrain/c.mp4\nrain/short.mp4\n")
    return folder / "videos"


def command(videos: Path, out: Path, *more: str) -> list[str]:
    return ["evaluate", "--generate", str(out), "--videos", str(videos), "--layout", "avsync15", *SHAPE, *more]


def samples_of(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


@pytest.fixture(scope="module")
def made(videos, tmp_path_factory) -> Path:
    """Two samples by the bundled model, measured at once."""
    out = tmp_path_factory.mktemp("made") / "tiny"
    files = ["--json", str(out.with_suffix(".json")), "--markdown", str(out.with_suffix(".md"))]
    assert main(command(videos, out, "--model", "tiny", "--samples", "2", "--batch", "1", *files)) == 0
    return out


def test_files_of_one_name_pair_what_was_recorded_with_what_was_made(made, videos):
    for place in ("reference", "sample-0", "sample-1"):
        for kind, suffix in (("clips", ".mp4"), ("video", ".mp4"), ("audio", ".wav")):
            assert sorted(path.name for path in (made / place / kind).iterdir()) == [name + suffix for name in NAMES]
        clip, silent = (read_clip(made / place / kind / "bell__a.mp4") for kind in ("clips", "video"))
        assert len(clip.frames) == 6 and clip.has_audio and not silent.has_audio
        assert np.array_equal(clip.frames, silent.frames)
        samples = samples_of(made / place / "audio" / "bell__a.wav")
        assert len(samples) == clip.audio.shape[1]
        assert np.corrcoef(samples, clip.audio[0])[0, 1] > 0.9
    with open(made / "captions.csv", newline="") as file:
        assert list(csv.reader(file))[:2] == [["name", "caption"], ["bell__a", "bell"]]
    assert "lasts 0.32 s, less than 0.48 s" in (made / "left-out" / "rain__short.txt").read_text()


def test_a_clip_is_that_of_its_picture_and_of_the_seed_of_its_name(made, videos):
    pipe = JointDiTPipeline.from_pretrained("tiny")
    (recording,) = find_recordings(videos, "avsync15", "test")[:1]
    (truth,) = take_clips(recording, pipe.shape(6, None, 32, 32), pipe.layout.sample_rate)
    again = pipe(
        truth.frames[0],
        steps=2,
        audio_substeps=1,
        frames=6,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(seed_of("bell__a", 1)),
    )
    assert samples_of(made / "sample-1" / "audio" / "bell__a.wav") == pytest.approx(
        again.audio[0].clip(-1, 1), abs=1e-3
    )
    assert seed_of("bell__a", 1) != seed_of("bell__a", 0) != seed_of("bell__b", 0)


def test_processes_share_the_names_and_a_stopped_run_goes_on(made, videos, tmp_path, capsys):
    out = tmp_path / "parts"
    model = ["--model", "tiny", "--samples", "2", "--batch", "1"]
    assert main(command(videos, out, *model, "--part", "0/2")) == 0
    assert "part 0 of 2" in capsys.readouterr().out
    assert main(["evaluate", str(out), "--quiet"]) == 2
    assert "clips are missing; give the command that began it again" in capsys.readouterr().err
    assert main(command(videos, out, *model, "--part", "1/2")) == 0
    sounds = sorted(path.relative_to(made) for path in made.rglob("*.wav"))
    assert len(sounds) == 9
    for path in sounds:
        assert np.array_equal(samples_of(out / path), samples_of(made / path))

    lost = out / "sample-1" / "clips" / "bell__b.mp4"
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4") if "bell__b" not in path.name}
    lost.unlink()
    assert main(command(videos, out, *model, "--part", "0/1")) == 0
    assert lost.exists() and kept == {path: path.stat().st_mtime_ns for path in kept}

    assert main(command(videos, out, *model, "--guidance", "none")) == 2
    assert "its clips were made with guidance" in capsys.readouterr().err
    assert main(command(videos, out, *model, "--split", "train")) == 2
    assert "split 'test' (now 'train')" in capsys.readouterr().err


def test_clips_of_weights_that_changed_in_their_place_are_not_mixed(videos, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(BUNDLED["tiny"], model)
    again = command(videos, out, "--model", str(model), "--limit", "2", "--part", "0/1")
    assert main(again) == 0 and main(again) == 0
    path = next((model / "joint_blocks").glob("*.safetensors"))
    tensors = load_file(path)
    next(each for each in tensors.values() if each.ndim > 1).mul_(0.5)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata)
    capsys.readouterr()
    assert main(again) == 2
    assert "its clips were made with weights_sha256" in capsys.readouterr().err


def test_the_result_names_the_split_and_every_measure_stands_beside_chance(made):
    report = json.loads(made.with_suffix(".json").read_text())
    assert report["settings"]["split"] == "test" and report["settings"]["set"] == "videos"
    assert report["clips"] == 6 and report["recordings"] == 3
    assert list(report["skipped"]) == ["rain__short"]
    rows = {row["measure"]: row for row in report["table"]}
    assert {"onset alignment", "motion with loudness"} <= rows.keys()
    for row in rows.values():
        assert row["chance"] is not None and row["real"] is not None and len(row["interval"]) == 2
    table = made.with_suffix(".md").read_text().splitlines()
    assert table[0].startswith("| measure | network | value") and len(table) == 2 + len(rows)


def test_experts_with_networks_give_the_same_kind_of_table_and_a_page_that_needs_no_other_file(
    made, videos, tmp_path, capsys
):
    networks = write_all(tmp_path / "networks")
    video_expert, audio_expert = map(str, write_experts(tmp_path / "experts"))
    experts = ["--video-expert", video_expert, "--audio-expert", audio_expert]
    out, page, scores = tmp_path / "experts set", tmp_path / "page.html", tmp_path / "scores.json"
    fps = ["--fps", "25/2", "--joint", "identity"]
    assert main(command(videos, out, *experts, *fps)) == 0
    measure = ["evaluate", str(out), "--quiet", "--features", str(networks), "--against", str(made)]
    assert main([*measure, "--export", "av-benchmark", "--page", str(page), "--json", str(scores)]) == 0
    assert "| difference |" in capsys.readouterr().out
    report = json.loads(scores.read_text())
    of_tiny = json.loads(made.with_suffix(".json").read_text())["table"]
    assert report["table"][0].keys() == of_tiny[0].keys()
    assert {row["measure"] for row in report["table"] if row["network"]} == {
        "Fréchet distance of videos",
        "kernel distance of videos",
        "Fréchet distance of sounds",
        "kernel distance of sounds",
        "KL divergence",
        "inception score, in one",
        "text with sound",
        "text with frames",
        "frame with next frame",
        "frames with first frame",
    }
    assert all(re.fullmatch("[0-9a-f]{64}", network["sha256"]) for network in report["networks"])
    assert report["against"] == "tiny" and report["same_pictures"] == 3
    assert len(report["comparison"]) == len(report["table"])
    for row in report["comparison"]:
        assert row["difference"]["value"] == pytest.approx(row["value"] - row["against"], abs=2e-4)
        assert 0 < row["difference"]["p"] <= 1

    html = page.read_text()
    assert html.count("<figure>") == 3 and html.count("data:image/png;base64,") == 3
    assert not re.findall(r'(?:src|href)="(?!data:)', html) and "<td>text with sound ↑</td>" in html

    script = (out / "av-benchmark.sh").read_text()
    assert "--gt_audio" in script and f"--audio_length {6 / 12.5:g}" in script
    for path in re.findall(r"'([^']+)'", script):
        assert Path(path).exists() or "av-benchmark" in Path(path).name


def test_a_recording_gives_clips_at_several_places(videos, tmp_path):
    out = tmp_path / "out"
    assert main(command(videos, out, "--model", "tiny", "--places", "2", "--limit", "2", "--part", "0/1")) == 0
    names = sorted(path.stem for path in (out / "sample-0" / "clips").iterdir())
    assert {name[-2:] for name in names} == {"-0", "-1"}
    start, end = (read_clip(out / "reference" / "clips" / f"{names[0][:-2]}-{k}.mp4").frames for k in (0, 1))
    assert not np.array_equal(start, end)


def test_other_programs_find_what_is_to_be_measured(made):
    for program in PROGRAMS:
        write_export(PairedSet.read(made), program)
    lines = [shlex.split(line, comments=True) for line in (made / "kadtk.sh").read_text().splitlines()]
    calls = [words for words in lines if words[:1] == ["kadtk"]]
    assert [words[1] for words in calls] == ["vggish", "panns-wavegram-logmel"] * 2
    assert [words[2:4] for words in calls[::2]] == [
        [str(made / "reference" / "audio"), str(made / f"sample-{k}" / "audio")] for k in (0, 1)
    ]

    tree = ast.parse((made / "cd-fvd.py").read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    folders = {text for text in strings if text.endswith("video")}
    assert folders == {str(made / place / "video") for place in ("reference", "sample-0", "sample-1")}
    (shape,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "SHAPE"]
    assert {each.arg: each.value.value for each in shape.keywords} == {
        "data_type": "video_folder",
        "resolution": 32,
        "sequence_length": 6,
    }


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--generate", "out"], "--videos is missing"),
        (["clips", "--generate", "out", "--videos", "in"], "FOLDER clips and --generate: give one of them"),
        (["--generate", "out", "--videos", "in", "--clips", "4"], "--clips does not go with --generate"),
        (["--model", "tiny", "--samples", "4"], "--samples goes with --generate only"),
        (["--model", "tiny", "--features", "x"], "--features goes with a FOLDER or with --generate"),
        (["--generate", "out", "--videos", "in", "--prompts", "unseen"], "it is captions, or none"),
        (["--generate", "out", "--videos", "in", "--part", "0/2", "--page", "x"], "leave --page out"),
        (["--generate", "out", "--videos", "in", "--features", "absent"], "absent: there is no such folder"),
        (["--generate", "out", "--videos", "absent"], "absent: there is no such folder"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(options, complaint, capsys):
    assert main(["evaluate", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
