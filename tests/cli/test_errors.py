"""Which errors are the user's, told in one line with status 2, and which are bugs, shown with their traceback."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import joint_blocks, write_experts

from jointdit.checkpoints.folders import BUNDLED
from jointdit.checkpoints.joint_files import save_joint_blocks
from jointdit.cli import main

QUICK = ["--steps", "1", "--quiet"]
BROKEN = """
import sys
import jointdit.synthetic
from jointdit.cli import main

def synthesize(*arguments, **options):
    {bug}

jointdit.synthetic.synthesize = synthesize
sys.exit(main(["synth", "clips"]))
"""


def refused(capsys, *argv) -> str:
    """Runs a command that must end with status 2 and one line on stderr; returns the line."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("jointdit: error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("bug", ["list(zip('a', '', strict=True))", "int('many')", "raise OSError('no file is named')"])
def test_a_bug_is_one_line_that_says_where_its_trace_is(bug, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = BROKEN.format(bug=bug)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("jointdit: this is a bug") and done.stderr.count("\n") == 1
    (trace,) = tmp_path.glob("jointdit-*.log")
    assert str(trace) in done.stderr and "in synthesize" in trace.read_text()


def test_debug_shows_the_trace_of_a_bug_on_the_spot(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = BROKEN.format(bug="int('many')").replace('"clips"]', '"clips", "--debug"]')
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("Traceback") and "in synthesize" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("jointdit: this is a bug") and not list(tmp_path.glob("*.log"))


def test_an_error_of_the_system_names_the_option(tmp_path, capsys):
    (tmp_path / "file").touch()
    argv = ["evaluate", "--model", "tiny", "--clips", "2", "--keep", tmp_path / "file" / "clips", "--frames", "6"]
    assert f"--keep: {tmp_path / 'file' / 'clips'}: not a directory" in refused(capsys, *argv, *QUICK)


@pytest.mark.parametrize(
    "error",
    [
        "OSError(28, 'No space left on device')",
        "__import__('safetensors').SafetensorError('I/O error: No space left on device (os error 28)')",
    ],
)
def test_an_error_of_the_system_without_a_file_is_no_bug(error, tmp_path):
    script = BROKEN.format(bug=f"raise {error}")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "no space left on device" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--match", "--model", "--json", "FOLDER"])
def test_a_very_long_value_is_not_repeated_whole(option, tmp_path, capsys):
    long = "x" * 70_000
    argv = [long] if option == "FOLDER" else [*([] if option == "--model" else [tmp_path]), option, long]
    line = refused(capsys, "evaluate", *argv)
    assert len(line) < 2000 and "xxx [...] " in line


def test_no_library_adds_a_line_about_a_damaged_picture(tmp_path):
    """libtiff writes to stderr by itself, past Python."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.tif", compression="tiff_deflate")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[12:30] = bytes(18)
    (tmp_path / "a.tif").write_bytes(data)
    argv = [sys.executable, "-m", "jointdit", "generate", "a.tif", "-o", "a.mp4"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.startswith("jointdit: error: a.tif") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("pattern", [".", "..", "", "../*", "**", "**/..", "x/../*", "[", "a\0"])
def test_every_pattern_of_names_is_used_or_refused(pattern, tmp_path, capsys):
    refused(capsys, "evaluate", tmp_path, "--match", pattern)


def test_an_error_of_the_file_system_names_the_file(tmp_path, capsys):
    (tmp_path / "file").touch()
    line = refused(capsys, "synth", tmp_path / "file" / "clips", "--frames", "6", "--size", "16x16")
    assert line == f"jointdit: error: {tmp_path / 'file' / 'clips'}: not a directory\n"


def test_a_pattern_that_no_name_can_match_is_refused(tmp_path, capsys):
    assert "--match /*.mp4: " in refused(capsys, "evaluate", tmp_path, "--match", "/*.mp4")


def test_scenes_that_are_too_short_to_show_anything_are_refused(capsys):
    assert "2 frames at 25/2 fps" in refused(capsys, "evaluate", "--model", "tiny", "--frames", "2", "--quiet")


def test_a_folder_of_kept_clips_that_was_damaged_is_named(tmp_path, capsys):
    (tmp_path / "settings.json").write_text("{")
    argv = ["evaluate", "--model", "tiny", "--effect", "ball", "--clips", "2", "--keep", tmp_path, "--quiet"]
    assert str(tmp_path / "settings.json") in refused(capsys, *argv)


def test_joint_blocks_that_do_not_fit_the_experts_are_refused(tmp_path, capsys):
    video, audio = write_experts(tmp_path)
    save_joint_blocks(joint_blocks(stages=(2, 1)), tmp_path / "joint.safetensors")
    argv = ["generate", "-o", tmp_path / "a.mp4", "--video-expert", video, "--audio-expert", audio, *QUICK]
    assert "stages [2, 1]" in refused(capsys, *argv, "--joint", tmp_path / "joint.safetensors")


@pytest.mark.parametrize(
    ("metadata", "told"),
    [({"config": '{"width": 30}'}, "width 30"), ({"config": '{"colour": 1}'}, "colour"), ({}, "config")],
)
def test_a_joint_block_file_with_a_wrong_config_is_named(metadata, told, tmp_path, capsys):
    path = tmp_path / "joint.safetensors"
    save_file({"weight": torch.zeros(1)}, path, metadata={"class": "JointBlocks"} | metadata)
    line = refused(capsys, "generate", "-o", tmp_path / "a.mp4", "--joint", path, *QUICK)
    assert str(path) in line and told in line


@pytest.fixture
def model(tmp_path) -> Path:
    """A copy of the bundled model."""
    return Path(shutil.copytree(BUNDLED["tiny"], tmp_path / "model"))


def test_a_model_with_another_kind_of_prediction_is_refused(model, tmp_path, capsys):
    config = model / "video_scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prediction_type": "epsilon"}))
    line = refused(capsys, "generate", "-o", tmp_path / "a.mp4", "--model", model, "--frames", "4", *QUICK)
    assert "prediction_type is 'epsilon'" in line


def test_a_model_that_computes_no_numbers_is_refused(model, tmp_path, capsys):
    path = model / "vocoder" / "model.safetensors"
    save_file({name: tensor * math.nan for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    line = refused(capsys, "generate", "-o", tmp_path / "a.mp4", "--model", model, "--frames", "4", *QUICK)
    assert "NaN" in line and "bfloat16" in line


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("generate --promt rain -o clip.mp4", "--promt: there is no such option; did you mean --prompt?"),
        ("generate --stpes=4 -o clip.mp4", "--stpes: there is no such option; did you mean --steps?"),
        ("generate --height 128", "--height: there is no such option; `jointdit generate --help` lists them"),
        ("run-workflow flow.json more", "more: not expected here; `jointdit run-workflow --help` says what is"),
        ("generat", "did you mean generate?"),
    ],
)
def test_a_mistyped_word_is_told_with_what_may_have_been_meant(line, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.rstrip().endswith(told)


def test_a_mistyped_name_in_a_configuration_is_told_with_what_may_have_been_meant(tmp_path, capsys):
    (tmp_path / "clip.toml").write_text('promt = "rain"\n')
    told = refused(capsys, "generate", "--config", tmp_path / "clip.toml", "-o", tmp_path / "clip.mp4")
    assert told.rstrip().endswith("clip.toml: unknown option 'promt'; did you mean prompt?")


def test_a_wrong_ending_is_told_with_all_that_there_are(tmp_path, capsys):
    told = refused(capsys, "generate", "-o", tmp_path / "clip.txt")
    assert "clips are written as .mp4, .webm, .gif or .webp, not '.txt'" in told
