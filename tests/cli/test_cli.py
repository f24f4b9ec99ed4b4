"""The command line: what it makes, and that bad input ends in one line, status 2 and no file."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import zlib
from pathlib import Path

import numpy as np
import pytest
from original_svd import SMALL_CONFIGS, write_single_file
from PIL import Image
from tiny_models import write_experts

import jointdit
from jointdit.checkpoints.single_file import CONFIGS
from jointdit.cli import generate, main
from jointdit.media import Clip, read_clip
from jointdit.synthetic import EFFECTS

QUICK = ["--steps", "1", "--frames", "4", "--quiet"]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:90, 0:120]
    path = tmp_path / "photo.png"
    Image.fromarray(np.stack([2 * x, 2 * y, 255 - x - y], -1).astype(np.uint8)).save(path)
    return path


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """Runs a command that must end with status 2 and one line on stderr; returns the line."""
    capsys.readouterr()
    try:
        status = main([str(word) for word in argv])
    except SystemExit as exit:
        status = exit.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("jointdit: error: ") and err.count("\n") == 1
    return err


def command(*argv: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jointdit", *map(str, argv)], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"jointdit {jointdit.__version__}\n"


@pytest.mark.parametrize(
    ("option", "values"),
    {
        "--steps": ["0", "-1", "1000", "9" * 5000, "2.5", "nan", "many", ""],
        "--frames": ["0", "-3", "1000000", "inf"],
        "--fps": ["0", "-12", "nan", "inf", "1e9", "1/0", "fast", "0.001"],
        "--size": ["0x0", "128", "128x", "x128", "-128x128", "100000x100000", "128x128x3", "wide"],
        "--seed": ["-1", str(2**64), "1.5"],
        "--video-scale": ["nan", "inf", "-1", "1e30", "high"],
        "--audio-scale": ["nan", "-0.5"],
        "--joint-scale": ["nan", "1000"],
        "--audio-substeps": ["0", "1000"],
        "--guidance": ["joint", ""],
        "--sampler": ["ddpm"],
        "--fit": ["crop"],
        "--dtype": ["int8", "float64"],
        "--memory": ["high", ""],
        "--device": ["gpu", "", "cuda:99", "meta"],
        "--motion-bucket": ["-1", "nan"],
        "--audio-grid": ["odd"],
        "--guidance-interval": ["5", "5:1", "a:b", "0:nan"],
        "--guidance-rescale": ["2"],
        "--video-pool": ["0"],
        "--offload": ["all"],
        "--compile": ["fast"],
        "--seeds": ["", "1,", "0x", "1,1", "-1"],
        "--loudness": ["0", "loud"],
        "--prompt": ["\udcff"],
        "--negative-prompt": ["rain \udcff"],
    }.items(),
)
def test_a_bad_value_is_named_with_its_option(option, values, photo, tmp_path, capsys) -> None:
    for value in values:
        line = refused(capsys, "generate", photo, "-o", tmp_path / "clip.mp4", f"{option}={value}")
        shown = value[:40].encode(errors="backslashreplace").decode()
        assert f"{option} {shown}" in line and len(line) < 250
    assert os.listdir(tmp_path) == ["photo.png"]


@pytest.mark.parametrize(
    "argv",
    [[], ["generat"], ["generate", "--stepz", "3"], ["generate", "a.png", "b.png"], ["generate", "--steps"], ["synth"]],
    ids=str,
)
def test_a_wrong_command_line_takes_one_line(argv, capsys) -> None:
    refused(capsys, *argv)


def test_the_output_is_checked_before_anything_is_read(photo, tmp_path, capsys) -> None:
    missing = tmp_path / "missing.png"  # were it read first, the message would be about it
    assert "--output is missing" in refused(capsys, "generate", missing)
    for name in ("clip.mov", "clip", "folder.mp4", "nowhere/clip.mp4", "photo.png/clip.mp4"):
        (tmp_path / "folder.mp4").mkdir(exist_ok=True)
        assert f"{name}: " in refused(capsys, "generate", missing, "-o", tmp_path / name)
    assert "/proc/clip.mp4" in refused(capsys, "generate", missing, "-o", "/proc/clip.mp4")


def test_an_unusable_picture_is_named(photo, tmp_path, capsys) -> None:
    whole = photo.read_bytes()
    bad = {
        "empty.png": b"",
        "text.jpg": b"this is no picture",
        "truncated.png": whole[: len(whole) // 2],
        "bomb.png": _png_header(100_000, 100_000),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    for name in (*bad, "folder.png", "missing.png"):
        assert name in refused(capsys, "generate", tmp_path / name, "-o", tmp_path / "clip.mp4", *QUICK)
    assert not (tmp_path / "clip.mp4").exists()


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_an_unknown_model_lists_the_available(photo, tmp_path, capsys) -> None:
    for name in ("tinny", "owner/name", "tiny\n", ""):
        line = refused(capsys, "generate", photo, "-o", tmp_path / "clip.mp4", "--model", name, *QUICK)
        assert name.strip() in line and "tiny" in line
    line = refused(capsys, "generate", photo, "-o", tmp_path / "clip.mp4", "--model", tmp_path, *QUICK)
    assert str(tmp_path / "model_index.json") in line


def test_a_size_that_does_not_fit_names_the_nearest(photo, tmp_path, capsys) -> None:
    line = refused(capsys, "generate", photo, "-o", tmp_path / "clip.mp4", "--size", "130x127", *QUICK)
    assert "130x127" in line and "128x128" in line
    assert os.listdir(tmp_path) == ["photo.png"]


def test_a_clip_that_fits_into_no_memory_is_refused_at_once(photo, tmp_path, capsys) -> None:
    huge = ("--size", "4096x4096", "--frames", "1000", "--window", "1000")
    line = refused(capsys, "generate", photo, "-o", tmp_path / "a.mp4", *huge)
    assert "1000 frames of 4096x4096" in line


def test_when_memory_runs_out_one_line_says_so(photo, tmp_path) -> None:
    script = """
import resource, sys
from pathlib import Path
import jointdit.pipeline.pipeline
from jointdit.cli import main
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 2**29, now + 2**29))
sys.exit(main(["generate", *sys.argv[1:], "--size", "4096x4096"]))
"""
    argv = [sys.executable, "-c", script, str(photo), "-o", str(tmp_path / "a.mp4")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "") and "Traceback" not in done.stderr, done
    assert done.stderr.splitlines()[-1].startswith("jointdit: error: memory ran out; ask for less at once (")
    assert os.listdir(tmp_path) == ["photo.png"]


def test_no_more_of_a_long_video_is_read_than_is_needed(tmp_path, monkeypatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3), dtype=np.uint8)
    Clip(frames, 25, np.zeros((1, 64000), np.float32), 16000).save(tmp_path / "long.mp4")
    monkeypatch.setattr("jointdit.media.decode.MAX_BYTES", frames.nbytes // 2)
    argv = ["generate", "-o", str(tmp_path / "a.mp4"), *QUICK]
    assert main([*argv, "--video", str(tmp_path / "long.mp4")]) == 0
    assert read_clip(tmp_path / "a.mp4").frames.shape == (8, 64, 64, 3)
    monkeypatch.setattr("jointdit.media.decode.MAX_BYTES", 200_000)  # 3 s of this sound, and 4 frames
    assert main([*argv, "--audio", str(tmp_path / "long.mp4"), "--size", "64x64"]) == 0


def test_generate_makes_what_is_asked_and_repeats_it(photo, tmp_path, capsys) -> None:
    clips = []
    for name, seed in (("a.mp4", 5), ("b.mp4", 5), ("c.mp4", 6)):
        argv = ["generate", str(photo), "-o", str(tmp_path / name), "--fps", "24000/1001", *QUICK, "--seed", str(seed)]
        assert main(argv) == 0
        assert capsys.readouterr() == (f"{tmp_path / name}: 4 frames, 23.976 fps, 128x128, 0.167 s, seed {seed}\n", "")
        clips.append(read_clip(tmp_path / name))
    same, again, other = clips
    assert same.frames.shape == (4, 128, 128, 3) and same.fps.numerator == 24000
    assert np.array_equal(same.frames, again.frames) and np.array_equal(same.audio, again.audio)
    assert not np.array_equal(same.frames, other.frames) and not np.array_equal(same.audio, other.audio)


def test_a_seed_that_was_drawn_is_printed_and_repeats_the_clip(tmp_path, capsys) -> None:
    assert main(["generate", "-o", str(tmp_path / "a.mp4"), *QUICK]) == 0
    seed = capsys.readouterr().out.split()[-1]
    assert main(["generate", "-o", str(tmp_path / "b.mp4"), *QUICK, "--seed", seed]) == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_every_option_does_something(photo, tmp_path) -> None:
    """Each option alone changes the clip; those that must not are not offered."""
    base = ["generate", str(photo), "--steps", "2", "--frames", "4", "--size", "64x64", "--seed", "1", "--quiet"]
    base.append("--no-metadata")  # which differs in any case
    options = [
        [],
        ["--prompt", "rain"],
        ["--negative-prompt", "rain"],
        ["--steps", "3"],
        ["--fit", "contain"],
        ["--fit", "stretch"],
        ["--guidance", "none"],
        ["--guidance", "cfg"],
        ["--guidance", "joint-cfg-star", "--joint-scale", "4"],  # without scales it starts as the model's own joint-cfg
        ["--guidance", "cfg", "--video-scale", "3.5"],
        ["--guidance", "cfg", "--audio-scale", "4.5"],
        ["--joint-scale", "2.5"],
        ["--sampler", "heun"],
        ["--sampler", "dpmpp_2m"],
        ["--sampler", "lcm"],
        ["--reuse", "2"],
        ["--reuse", "2", "--reuse-layers", "1"],
        ["--audio-substeps", "3"],
        ["--dtype", "bfloat16"],
        ["--motion-bucket", "900"],
        ["--noise-augmentation", "2"],
        ["--audio-grid", "coupled"],
        ["--isolated"],
        ["--guidance", "cfg", "--video-scale", "4", "--video-scale-start", "1"],
        ["--guidance", "cfg", "--video-scale", "4", "--guidance-rescale", "0.3"],
        ["--steps", "3", "--guidance-interval", "1:300"],
        ["--prompt", "rain", "--video-prompt-scale", "1"],
        ["--video-joint-scale", "2"],
        ["--audio-joint-scale", "1.5"],
        ["--sync", "2"],
        ["--steps", "3", "--sync", "2", "--sync-interval", "0:300"],
        ["--video-pool", "2"],
        ["--float8"],
        ["--gain", "-6"],
    ]
    results = {}
    for option in options:
        assert main([*base, *option, "-o", str(tmp_path / "clip.mp4")]) == 0
        results.setdefault((tmp_path / "clip.mp4").read_bytes(), []).append(option)
    assert [same for same in results.values() if len(same) > 1] == []


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        (["--reuse-layers", "1"], "--reuse-layers 1: goes with --reuse only; leave it out"),
        (["--reuse", "2", "--reuse-layers", "3"], "reuse layers 3: the last block of this video model has 2 layers"),
    ],
)
def test_layers_to_run_anew_are_checked(photo, tmp_path, capsys, options, refusal) -> None:
    argv = ["generate", str(photo), "-o", str(tmp_path / "clip.mp4"), "--size", "64x64", "--seed", "1", *QUICK]
    assert main([*argv, *options]) == 2
    assert refusal in capsys.readouterr().err and not (tmp_path / "clip.mp4").exists()


def test_an_empty_prompt_is_no_prompt(photo, tmp_path) -> None:
    clips = []
    for options in ([], ["--prompt", ""], ["--prompt", " ", "--negative-prompt", " "]):
        argv = ["generate", str(photo), "-o", str(tmp_path / "clip.mp4"), "--size", "64x64", "--seed", "1", *QUICK]
        assert main([*argv, *options]) == 0
        clips.append((tmp_path / "clip.mp4").read_bytes())
    assert clips[0] == clips[1] == clips[2]


def test_a_long_video_is_sounded_whole_and_a_span_of_a_clip_is_made_anew(tmp_path, capsys) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    Clip(frames, 25, np.zeros((1, 0), np.float32), 16000).save(tmp_path / "long.mp4")
    made, anew = tmp_path / "made.mp4", tmp_path / "anew.mp4"
    quick = ["--steps", "1", "--audio-substeps", "1", "--seed", "1", "--quiet"]
    base = ["generate", "--video", str(tmp_path / "long.mp4"), "-o", str(made), "--window", "8", "--overlap", "2"]
    assert main([*base, *quick]) == 0
    assert capsys.readouterr().out == f"{made}: 30 frames, 25 fps, 64x64, 1.200 s, seed 1\n"
    clip = read_clip(made)
    assert clip.frames.shape == (30, 64, 64, 3) and clip.has_audio
    sound = ["--retake", "0.4-0.8", "--retake-only", "sound"]
    assert main(["generate", "--video", str(made), "-o", str(anew), *sound, *quick]) == 0
    new = read_clip(anew)
    assert new.frames.shape == clip.frames.shape and not np.array_equal(new.audio, clip.audio)


def test_a_retake_needs_a_clip_and_a_span(photo, tmp_path, capsys) -> None:
    clip, output = tmp_path / "clip.mp4", ["-o", tmp_path / "a.mp4"]
    for span in ("2.0-1.2", "1.2", "1.2-", "x-y", "-1-2"):
        assert "must be two times" in refused(capsys, "generate", "--video", clip, f"--retake={span}", *output)
    assert "name the clip with --video" in refused(capsys, "generate", photo, "--retake", "0-1", *output)
    clip.write_bytes(b"x")
    line = refused(capsys, "generate", "--video", clip, "--retake-only", "sound", *output)
    assert "say which seconds with --retake" in line


def test_frames_are_the_clips_and_not_what_an_expert_was_made_for(photo, tmp_path, monkeypatch, capsys) -> None:
    for name, config in SMALL_CONFIGS.items():
        monkeypatch.setitem(CONFIGS, name, config)
    _, audio = write_experts(tmp_path)
    base = ["generate", photo, "-o", tmp_path / "a.mp4", "--size", "48x40", "--fps", "8", *QUICK]
    unnamed = [*base, "--video-expert", tmp_path / "mine.safetensors", "--audio-expert", audio]
    write_single_file(tmp_path / "mine.safetensors")
    assert "mine.safetensors: neither" in (line := refused(capsys, *unnamed)) and "--expert-frames" in line
    made_for, load = [], generate.load_model

    def recorded(*options):
        pipe = load(*options)
        made_for.append(pipe.video_unet.config.num_frames)
        return pipe

    monkeypatch.setattr(generate, "load_model", recorded)
    assert main([str(word) for word in (*unnamed, "--expert-frames", 14)]) == 0
    (tmp_path / "mine.safetensors").rename(tmp_path / "svd_xt.safetensors")
    named = [*base, "--video-expert", tmp_path / "svd_xt.safetensors", "--audio-expert", audio]
    assert main([str(word) for word in named]) == 0
    assert made_for == [14, 25]
    assert read_clip(tmp_path / "a.mp4").frames.shape == (4, 40, 48, 3)


@pytest.mark.parametrize("expert", [[], ["--video-expert", "folder", "--audio-expert", "b"]], ids=str)
def test_expert_frames_are_refused_where_no_single_file_is_given(expert, tmp_path, capsys) -> None:
    line = refused(capsys, "generate", "-o", tmp_path / "a.mp4", "--expert-frames", "25", *expert)
    assert "--expert-frames 25: goes with a single file" in line


def test_config_holds_the_same_options_and_the_command_line_wins(photo, tmp_path, capsys) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    config = folder / "clip.toml"
    config.write_text('image = "../photo.png"\noutput = "clip.mp4"\nsteps = 1\nframes = 6\nfps = 12.5\nseed = 3\n')
    assert main(["generate", "--config", str(config), "--frames", "4", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith(f"{folder / 'clip.mp4'}: 4 frames, 12.5 fps, 128x128, 0.320 s, seed 3")
    assert main(["generate", str(photo), "-o", str(tmp_path / "b.mp4"), "--fps", "12.5", "--seed", "3", *QUICK]) == 0
    assert (folder / "clip.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepz = 3", "stepz"),
        ("steps = 0", "--steps 0"),
        ("video-scale = nan", "--video-scale nan"),
        ("steps = [1, 2]", "steps must be"),
        ("prompt = true", "prompt must be"),
        ("steps = ", "not valid TOML"),
        ("\x00", "not valid TOML"),
    ],
)
def test_a_bad_config_is_refused(text, named, tmp_path, capsys) -> None:
    (tmp_path / "clip.toml").write_text(text)
    assert named in refused(capsys, "generate", "-o", tmp_path / "a.mp4", "--config", tmp_path / "clip.toml")


def test_a_config_that_cannot_be_read_is_named(tmp_path, capsys) -> None:
    (tmp_path / "latin.toml").write_bytes(b'prompt = "\xe9"')
    for name in ("missing.toml", "latin.toml", "."):
        assert str(tmp_path / name) in refused(capsys, "generate", "-o", "a.mp4", "--config", tmp_path / name)


def test_a_long_prompt_may_stand_in_a_config(tmp_path, capsys) -> None:
    (tmp_path / "clip.toml").write_text(f'prompt = "{"rain " * 1000}"\nimage = "missing.png"')
    assert "missing.png" in refused(capsys, "generate", "-o", tmp_path / "a.mp4", "--config", tmp_path / "clip.toml")


def test_debug_shows_the_traceback_as_well(tmp_path) -> None:
    argv = ["generate", "missing.png", "-o", "clip.mp4"]
    short, long = command(*argv, cwd=tmp_path), command(*argv, "--debug", cwd=tmp_path)
    assert (short.returncode, long.returncode) == (2, 2)
    assert short.stderr.count("\n") == 1 and "missing.png" in short.stderr
    assert "Traceback" in long.stderr and long.stderr.endswith(short.stderr)
    assert os.listdir(tmp_path) == []


def test_a_real_run_prints_one_line_and_no_warning(photo, tmp_path) -> None:
    done = command("generate", photo, "-o", "clip.mp4", "--steps", 1, "--frames", 4, "--seed", 1, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "clip.mp4: 4 frames, 12.5 fps, 128x128, 0.320 s, seed 1\n"


def test_ctrl_c_while_sampling_leaves_nothing_behind(photo, tmp_path) -> None:
    """A terminal on stderr shows the bar; once it counts steps, Ctrl-C is sent."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    argv = ["generate", str(photo), "-o", "clip.mp4", "--steps", "900", "--audio-substeps", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jointdit", *argv], cwd=tmp_path, stdout=subprocess.PIPE, stderr=slave
    )
    os.close(slave)
    with process:
        shown = _read_until(master, rb"[1-9]\d*/900")
        process.send_signal(signal.SIGINT)
        status = process.wait(60)
        shown = _read_until(master, b"interrupted")
    assert status == 130
    assert shown.count(b"jointdit: interrupted") == 1 and b"Traceback" not in shown
    assert os.listdir(tmp_path) == ["photo.png"]


def _read_until(terminal: int, pattern: bytes) -> bytes:
    shown = b""
    while not re.search(pattern, shown):
        shown += os.read(terminal, 4096)  # OSError once the process has gone without showing it
    return shown


def test_synth_writes_clips_with_their_events(tmp_path, capsys) -> None:
    for folder in ("one", "two"):
        assert main(["synth", str(tmp_path / folder), "--clips", "2", "--seed", "4", "--frames", "8", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert [Path(name).suffix for name in names] == [".json", ".mp4"] * 2
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    "option", ["--clips=0", "--clips=-1", "--seed=x", "--fps=0", "--frames=1", "--size=8x8", "--size=129x128"]
)
def test_synth_refuses_a_bad_value(option, tmp_path, capsys) -> None:
    assert option.split("=")[1] in refused(capsys, "synth", tmp_path / "clips", option)
    assert list(tmp_path.rglob("*.*")) == []


def test_an_unknown_effect_lists_them_all(tmp_path, capsys) -> None:
    line = refused(capsys, "synth", tmp_path / "clips", "--effect", "magic")
    assert all(name in line for name in ("magic", *EFFECTS))
    assert not (tmp_path / "clips").exists()


def test_synth_refuses_photos_it_cannot_use(tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("missing", "empty"):
        assert str(tmp_path / name) in refused(capsys, "synth", tmp_path / "clips", "--photos", tmp_path / name)
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(capsys, "synth", tmp_path / "file")


def test_a_bar_ends_full_when_fewer_steps_are_needed_than_foreseen(capsys, monkeypatch) -> None:
    from jointdit.cli.progress import Progress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress(quiet=False) as progress:
        for done, total in ((0, 12), (1, 3), (2, 3), (3, 3)):
            progress("sample", done, total)
    assert "3/3" in capsys.readouterr().err


def test_without_a_terminal_long_work_writes_whole_lines_and_short_work_none(capsys, monkeypatch) -> None:
    from jointdit.cli import progress as module

    def run() -> str:
        with module.Progress(quiet=False) as progress:
            for done in range(4):
                progress("train", done, 3, f"loss {4 - done}")
        return capsys.readouterr().err

    assert run() == "", "it lasted no half minute"
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    lines = run().splitlines()
    assert lines[0].startswith("train:   0%") and "3/3" in lines[-1] and "loss 1" in lines[-1]
    assert "<" in lines[1], "the time that is left"
