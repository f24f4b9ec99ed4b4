"""Damaged files are read or refused, and nothing else: no error of a library, no array of another kind.
`pytest tests/media/test_damaged.py --examples 100000` looks for hours."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from damage import LEVELS, corpus, damaged, read
from hypothesis import HealthCheck, given, settings

from jointdit.errors import InputError
from jointdit.media import Clip, exact_fps, read_clip

FILES = corpus()


@pytest.mark.parametrize("kind", FILES)
def test_what_the_corpus_holds_is_read(kind, tmp_path):
    for name, data in FILES[kind].items():
        path = tmp_path / f"a.{name}"
        path.write_bytes(data)
        read(kind, path)


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_read_or_refused(kind, tmp_path, examples):
    @settings(
        max_examples=examples or 100,
        derandomize=not examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(FILES[kind]))
    def check(file: tuple[str, bytes]) -> None:
        path = tmp_path / f"a.{file[0]}"
        path.write_bytes(file[1])
        try:
            read(kind, path)
        except InputError as error:
            assert "\n" not in str(error) and str(path) in str(error)

    check()


def test_a_video_of_hours_without_a_picture_is_refused_when_it_is_read(tmp_path):
    """The encoders count in 32 bits; it was found after all sampling."""
    path = tmp_path / "step.mp4"
    with av.open(str(path), "w") as made:
        stream = made.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 48, 32
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for time in range(0, 140_000_000, 20_000_000):  # ms
            frame = av.VideoFrame.from_ndarray(LEVELS[0], format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    with pytest.raises(InputError, match="frames a second; give fps"):
        read_clip(path)
    assert len(read_clip(path, fps=25, max_seconds=1).frames) == 25


@pytest.mark.parametrize("fps", [Fraction(10**12 + 1, 10**11), Fraction(1, 7) + Fraction(1, 10**15), 1 / 997, 0.001])
def test_every_frame_rate_that_is_taken_can_be_written(fps, tmp_path):
    Clip(LEVELS[:2], fps, np.zeros((1, 0), np.float32), 16000).save(tmp_path / "a.mp4")
    assert len(read_clip(tmp_path / "a.mp4").frames) == 2


@pytest.mark.parametrize("fps", ["1e999999999", "1e-999999999", "0.0009", "nan", "9" * 5000])
def test_frame_rates_beyond_all_use_are_refused_at_once(fps):
    with pytest.raises(InputError, match="must be from 1/1000 to 240"):
        exact_fps(fps)
