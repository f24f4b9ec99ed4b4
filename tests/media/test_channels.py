"""Sound of 1 to 16 channels is read as it is from every kind of file; what cannot be written is refused before it is
made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from jointdit.cli import main

# A crash of the decoder would end the tests too: each file is read by a process of its own.
READ = """
import os, sys
import numpy as np
from jointdit.media import read_audio, read_clip

for path in sys.argv[1:]:
    child = os.fork()
    if not child:
        audio, rate = read_audio(path)
        levels = np.abs(audio).max(axis=1)
        assert rate == 16000 and (np.diff(levels) > 0.01).all(), levels
        if path.endswith(".mkv"):
            np.testing.assert_array_equal(read_clip(path).audio[:, :len(audio[0])], audio)
        resampled, rate = read_audio(path, 8000)
        assert resampled.shape == (len(audio), round(len(audio[0]) / 2))
        print(os.path.basename(path), len(audio), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        print(os.path.basename(path), "ended with", status, flush=True)
"""


def sound(path: Path, channels: int) -> Path:
    """0.2 s; each channel is a little louder than the one before."""
    levels = np.linspace(0.1, 0.9, channels) if channels > 1 else np.array([0.5])
    time = np.arange(3200) / 16000
    soundfile.write(path, np.sin(2 * np.pi * 500 * time)[:, None] * levels, 16000)
    return path


def video(path: Path, channels: int) -> Path:
    """0.6 s of grey frames with such a sound."""
    source = sound(path.with_suffix(".source.wav"), channels)
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        audio = made.add_stream_from_template(given.streams.audio[0])
        picture = made.add_stream("mpeg4", rate=25)
        picture.width, picture.height = 32, 32
        for packet in given.demux(audio=0):
            if packet.dts is not None:
                packet.stream = audio
                made.mux(packet)
        for _ in range(15):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 128, np.uint8), format="rgb24")
            made.mux(picture.encode(frame))
        made.mux(picture.encode(None))
    source.unlink()
    return path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each file takes fork")
def test_sound_of_many_channels_is_read_from_every_kind_of_file(tmp_path):
    files = {sound(tmp_path / f"{channels}.wav", channels): channels for channels in range(1, 17)}
    files |= {sound(tmp_path / f"{channels}.flac", channels): channels for channels in range(1, 9)}  # its most
    files |= {video(tmp_path / f"{channels}.mkv", channels): channels for channels in range(1, 17)}
    done = subprocess.run([sys.executable, "-c", READ, *files], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [f"{path.name} {channels}" for path, channels in files.items()], done.stderr


def test_sound_that_cannot_be_written_is_refused_before_it_is_used(tmp_path, capsys, monkeypatch):
    def sample(*arguments, **options):
        raise AssertionError("sampled")

    monkeypatch.setattr("jointdit.pipeline.JointDiTPipeline.sample", sample)
    path = sound(tmp_path / "surround.wav", 6)
    assert main(["generate", "--audio", str(path), "-o", str(tmp_path / "a.mp4"), "--quiet"]) == 2
    line = capsys.readouterr().err
    assert f"--audio {path}: the sound has 6 channels" in line and line.count("\n") == 1


def test_a_video_with_surround_sound_gets_a_sound(tmp_path, capsys):
    """Its own sound is not kept, so that it may have any number of channels."""
    path = video(tmp_path / "surround.mkv", 8)
    argv = ["generate", "--video", path, "--frames", "4", "--steps", "1", "-o", tmp_path / "a.mp4", "--quiet"]
    assert main([str(word) for word in argv]) == 0, capsys.readouterr().err
