"""Which videos of a folder are found, what each is called, and the clips that are cut out of them."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from jointdit.datasets.recordings import Recording, TrainingClip, cut, find_recordings
from jointdit.errors import InputError
from jointdit.latents import ClipShape
from jointdit.media import Clip, fit_image, read_clip

SHAPE = ClipShape(frames=4, fps=Fraction(25, 2), height=32, width=48)
RATE = 16000
MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media" / "videos"


def test_a_video_without_a_class_folder_gets_no_caption_from_the_folder_of_all(tmp_path):
    folder = tmp_path / "my videos"
    (folder / "rain").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "rain/c.mp4"):
        (folder / name).touch()
    (folder / "b.txt").write_text("a bell")
    first, *others = find_recordings(folder)
    assert not first.caption and "a.txt" in first.problem and "captions.csv" in first.problem
    assert [(each.caption, each.problem) for each in others] == [("a bell", ""), ("rain", "")]


def test_a_flat_folder_says_in_one_line_how_to_give_captions(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"none of the 2 videos.*a\.txt.*captions\.csv") as error:
        find_recordings(tmp_path)
    assert "\n" not in str(error.value)


def cut_whole(path: Path, shape: ClipShape) -> list[TrainingClip]:
    """What `cut` gives, out of a file that is read as a whole."""
    clip = read_clip(path, max_seconds=60, fps=shape.fps, sample_rate=RATE)
    clips = []
    for index in range(len(clip.frames) // shape.frames):
        first = math.floor(index * shape.seconds * RATE)
        frames = clip.frames[index * shape.frames : (index + 1) * shape.frames]
        fitted = np.stack([fit_image(frame, shape.height, shape.width) for frame in frames])
        clips.append(TrainingClip(f"a#{index}", "", fitted, clip.audio.mean(0)[first : first + shape.samples(RATE)]))
    return clips


def steady(path: Path, fps: float = 12.5, seconds: float = 2.0, rate: int = 44100, size: tuple[int, int] = (48, 64)):
    """Noise in both, in stereo."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (round(seconds * fps), *size, 3)).astype(np.uint8)
    samples = round(len(frames) / Fraction(fps) * rate)
    Clip(frames, fps, rng.normal(0, 0.1, (2, samples)).astype(np.float32), rate).save(path)


def uneven(path: Path) -> None:
    """Frames of very different durations that start late, beside a tone that starts later and ends earlier."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25, width=64, height=48, pix_fmt="yuv420p")
        sound = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        video.codec_context.time_base = Fraction(1, 1000)
        rng = np.random.default_rng(0)
        at = 500
        for duration in rng.choice([10, 40, 40, 41, 200, 400], 24):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (48, 64, 3)).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(video.encode(frame))
            at += int(duration)
        container.mux(video.encode())
        tone = (8000 * np.sin(np.arange(48000) / 9)).astype(np.int16)[None]
        piece = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        piece.sample_rate, piece.pts, piece.time_base = 48000, 48000, Fraction(1, 48000)
        container.mux(sound.encode(piece))
        container.mux(sound.encode())


@pytest.mark.parametrize("kind", ["steady", "faster", "slower", "uneven"])
def test_streaming_cuts_the_clips_that_reading_the_whole_file_does(tmp_path, kind):
    path = tmp_path / ("a.mkv" if kind == "uneven" else "a.mp4")
    if kind == "uneven":
        uneven(path)
    else:
        steady(path, {"steady": 12.5, "faster": 30, "slower": 5}[kind])
    whole = {clip.name: clip for clip in cut_whole(path, SHAPE)}
    streamed = list(cut(Recording(path, "a", "noise"), SHAPE, RATE))
    assert len(streamed) >= 3 and {clip.name for clip in streamed} <= whole.keys()
    for clip in streamed:
        expected = whole[clip.name]
        assert np.array_equal(clip.frames, expected.frames) and np.array_equal(clip.audio, expected.audio)
    loud = [name for name, clip in whole.items() if np.sqrt(np.square(clip.audio).mean()) > 0.01]
    assert loud == [clip.name for clip in streamed]


@pytest.mark.skipif(not MEDIA.is_dir(), reason="the real videos of ../shared/media are absent")
def test_streaming_cuts_real_videos_as_reading_them_whole_does():
    shape = ClipShape(frames=5, fps=Fraction(6), height=64, width=96)
    for path in sorted(MEDIA.glob("*.mp4"))[:2]:
        whole, streamed = cut_whole(path, shape), list(cut(Recording(path, "a", ""), shape, RATE))
        assert len(streamed) == len(whole) == 2
        for clip, expected in zip(streamed, whole, strict=True):
            assert np.array_equal(clip.frames, expected.frames) and np.array_equal(clip.audio, expected.audio)


def test_a_long_file_takes_the_memory_of_a_clip(tmp_path):
    """The file's frames take 83 MB, a clip's 4 MB."""
    steady(tmp_path / "a.mp4", seconds=7.2, rate=RATE, size=(480, 640))
    tracemalloc.start()
    clips = sum(1 for _ in cut(Recording(tmp_path / "a.mp4", "a", ""), SHAPE, RATE))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert clips == 22 and peak < 8e6
