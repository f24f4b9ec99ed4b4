"""Videos and sounds out of files, on one clock that starts with the first frame."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from os import PathLike
from typing import Any, TypeVar, overload

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Colorspace, Interpolation

from ..errors import InputError
from .clip import MAX_FPS, MIN_FPS, Clip, exact_fps
from .files import source_file
from .sound import fit_audio, resample_audio

T = TypeVar("T")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")  # what counts as a video in a folder of files
MAX_BYTES = 4 * 2**30  # of decoded frames or sound; more is a film, not a clip
RGB_CONVERSION = Interpolation.BICUBIC | 0x40000 | 0x2000  # SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT
MAX_JITTER = Fraction(1, 20)  # s; timestamps of real files wobble by less, holes in the sound are longer


def read_clip(
    path: str | PathLike[str],
    *,
    max_seconds: float | None = None,
    fps: int | float | str | Fraction | None = None,
    sample_rate: int | None = None,
) -> Clip:
    """Read a video of any format that FFmpeg knows, upright, with its sound, as players show it.

    Time zero is the first frame. Frames of uneven duration are put on a regular grid (the frame that is shown at the
    middle of each grid step), so that they stay with the sound. The sound is cut or padded with zeros to the duration
    of the frames; a video without a sound track gives audio [1, 0].

    max_seconds: read no more than this from the start.
    fps: frames per second of the grid; by default the video's own average.
    sample_rate: resample the sound to this rate in Hz; by default it keeps its own.

    Raises InputError for a file that is missing, broken, without frames, or too long for memory. A truncated .mp4 is
    refused; a truncated .webm or .mkv gives the frames that are left, since nothing in it tells.
    """
    _check_seconds(max_seconds)
    frames: list[np.ndarray] = []
    with _opened(path) as container:
        grid, limit = _grid(path, container, fps, max_seconds)
        start, pictures = _read_frames(path, container, grid, limit, _upright)
        for picture, steps in pictures:
            if (len(frames) + steps) * picture.nbytes > MAX_BYTES:
                raise InputError(
                    f"{path}: {len(frames) + steps} frames or more do not fit into memory; give max_seconds"
                )
            frames.extend([picture] * steps)
    seconds = len(frames) / grid
    with _opened(path) as container:  # again from the start
        audio, rate = _read_samples(path, container, sample_rate, seconds, start)
    if audio.size:
        _check_bytes(path, seconds, len(audio), rate)
        audio = fit_audio(audio, round(seconds * rate), fade=0)
    return Clip(np.stack(frames), grid, audio, rate)


@dataclass(frozen=True, eq=False)
class ClipStream:
    """A video whose frames are decoded when they are asked for; for the rest as in a `Clip`.

    pictures: uint8 [H, W, 3], upright, each with the number of frames of the regular grid for which it is shown.
    audio: float32 [channels, samples] from the first frame on, neither cut nor padded to the frames; [1, 0]: no sound.
    """

    pictures: Iterator[tuple[np.ndarray, int]]
    fps: Fraction
    audio: np.ndarray
    sample_rate: int


@contextmanager
def stream_clip(
    path: str | PathLike[str],
    *,
    max_seconds: float | None = None,
    fps: int | float | str | Fraction | None = None,
    sample_rate: int | None = None,
    sound: bool = True,
) -> Iterator[ClipStream]:
    """Opens a video as `read_clip` reads it, with one frame in memory at a time. Takes and raises what that does; what
    is broken further on in the file is found when the frames there are asked for.

    sound: without it, the sound is not read."""
    _check_seconds(max_seconds)
    with _opened(path) as container:
        grid, limit = _grid(path, container, fps, max_seconds)
        start, pictures = _read_frames(path, container, grid, limit, _upright)
        audio, rate = np.zeros((1, 0), np.float32), sample_rate or 16000
        if sound:
            with _opened(path) as again:
                audio, rate = _read_samples(path, again, sample_rate, limit / grid, start)
        yield ClipStream(pictures, grid, audio, rate)


def measure_video(path: str | PathLike[str], *, max_seconds: float | None = None) -> tuple[int, Fraction, int, int]:
    """Frames, frames a second, height and width of a video as `read_clip` reads it; all of it is decoded, one frame at
    a time. Raises what that does."""
    _check_seconds(max_seconds)
    with _opened(path) as container:
        grid, limit = _grid(path, container, None, max_seconds)
        _, pictures = _read_frames(path, container, grid, limit, _upright_size)
        count, size = 0, (0, 0)
        for size, steps in pictures:  # noqa: B007, the last one
            count += steps
    return count, grid, *size


def read_audio(
    path: str | PathLike[str], sample_rate: int | None = None, *, max_seconds: float | None = None
) -> tuple[np.ndarray, int]:
    """Read the first sound track of a sound or video file: float32 [channels, samples] in -1..1, and its rate in Hz.

    sample_rate: resample to this rate; by default the sound keeps its own.
    max_seconds: read no more than this from the start.
    Raises InputError for a file that is missing, broken, without sound, or too long for memory.
    """
    _check_seconds(max_seconds)
    with _opened(path) as container:
        audio, rate = _read_samples(path, container, sample_rate, max_seconds or math.inf)
    if not audio.size:
        raise InputError(f"{path}: there is no sound in this file; name a sound file or a video with sound")
    return audio if max_seconds is None else audio[:, : round(max_seconds * rate)], rate


def _check_seconds(max_seconds: float | None) -> None:
    if max_seconds is not None and not 0 < max_seconds < math.inf:
        raise InputError(f"max_seconds is {max_seconds}, but must be above 0 and finite")


def _check_bytes(path: str | PathLike[str], seconds: float | Fraction, channels: int, rate: int) -> None:
    if seconds * channels * rate * 4 > MAX_BYTES:
        raise InputError(f"{path}: {float(seconds):.0f} seconds of sound or more do not fit into memory; cut it")


@contextmanager
def _opened(path: str | PathLike[str]) -> Iterator[InputContainer]:
    try:
        with av.open(str(source_file(path)), metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: not a readable sound or video file ({reason}); name another file") from error


@overload
def _decoded(
    path: str | PathLike[str], container: InputContainer, stream: av.AudioStream
) -> Iterator[av.AudioFrame]: ...


@overload
def _decoded(
    path: str | PathLike[str], container: InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]: ...


def _decoded(
    path: str | PathLike[str], container: InputContainer, stream: av.AudioStream | av.VideoStream
) -> Iterator[Any]:
    if stream.codec_context is None:
        raise InputError(f"{path}: the {stream.type} is coded in an unknown way; convert it to mp4")
    if stream.type == "video":
        stream.thread_type = "AUTO"
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise InputError(f"{path}: the file is truncated or damaged; name another file")
        yield from packet.decode()


def _frame_rate(path: str | PathLike[str], stream: av.VideoStream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate or 0
    if not MIN_FPS <= rate <= MAX_FPS:
        said = f"shows {float(rate):.3g} frames a second" if rate else "does not say how many frames it shows a second"
        raise InputError(f"{path}: the file {said}; give fps, or convert it to {float(MIN_FPS):g} to {MAX_FPS}")
    return exact_fps(float(rate))  # .webm gives a ratio near to the one that was meant


def _grid(
    path: str | PathLike[str],
    container: InputContainer,
    fps: int | float | str | Fraction | None,
    max_seconds: float | None,
) -> tuple[Fraction, int]:
    """Frames per second to read, and how many at most."""
    if not container.streams.video:
        raise InputError(f"{path}: there is no video in this file; name a file with one")
    grid = _frame_rate(path, container.streams.video[0]) if fps is None else exact_fps(fps)
    return grid, sys.maxsize if max_seconds is None else max(1, round(Fraction(max_seconds) * grid))


def _read_frames(
    path: str | PathLike[str],
    container: InputContainer,
    fps: Fraction,
    limit: int,
    convert: Callable[[av.VideoFrame], T],
) -> tuple[Fraction, Iterator[tuple[T, int]]]:
    """The time of the first frame in seconds, and pictures, converted, each with the number of steps of the grid
    k / fps that it fills: those whose middle falls into its time. At most `limit` steps in all."""
    decoded = _decoded(path, container, container.streams.video[0])
    first = next(decoded, None)
    if first is None:
        raise InputError(f"{path}: there are no frames in this video; name another file")
    start = _seconds(first, first.pts) or Fraction(0)

    def end_of(frame: av.VideoFrame, time: Fraction) -> Fraction:
        return time + (_seconds(frame, frame.duration) or 1 / fps)

    def pictures() -> Iterator[tuple[T, int]]:
        shown, end, done = first, end_of(first, start), 0
        for frame in chain(decoded, [None]):
            if frame is None:
                time = max(end, start + 1 / fps)
            else:
                stamp = _seconds(frame, frame.pts)
                time = end if stamp is None else stamp
            steps = min(limit, math.ceil((time - start) * fps - Fraction(1, 2))) - done
            if steps > 0:
                yield convert(shown), steps
                done += steps
            if frame is None or done == limit:
                return
            shown, end = frame, end_of(frame, time)

    return start, pictures()


def _seconds(frame: av.AudioFrame | av.VideoFrame, ticks: int | None) -> Fraction | None:
    """A time on the frame's own clock in seconds; None where the file does not give it."""
    return None if ticks is None or frame.time_base is None else ticks * frame.time_base


def _upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Height and width."""
    return (frame.width, frame.height) if round(frame.rotation / 90) % 2 else (frame.height, frame.width)


def _upright(frame: av.VideoFrame) -> np.ndarray:
    # A destination unlike the source: PyAV 16 forgets the source's matrix where both are the same. RGB has none.
    other = Colorspace.ITU601 if frame.colorspace == Colorspace.ITU709 else Colorspace.ITU709
    picture = frame.reformat(
        format="rgb24", dst_colorspace=other, src_color_range=frame.color_range, interpolation=RGB_CONVERSION
    ).to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _read_samples(
    path: str | PathLike[str],
    container: InputContainer,
    sample_rate: int | None,
    seconds: float | Fraction,
    start: Fraction | None = None,
) -> tuple[np.ndarray, int]:
    """About `seconds` of sound from `start` on the file's clock, or from its own first sample.

    Returns float32 [channels, samples] and its rate; [1, 0] if there is none.
    """
    frames = _decoded(path, container, container.streams.audio[0]) if container.streams.audio else ()
    packed = av.AudioResampler(format="flt")  # one plane: of planar frames, PyAV reads past 8 channels
    pieces: list[tuple[int, np.ndarray]] = []
    position, rate, channels = 0, sample_rate or 16000, 1
    for frame in frames:
        if not pieces:
            rate, channels = frame.sample_rate, frame.layout.nb_channels
        elif (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
            raise InputError(f"{path}: the sound changes its rate or channels on the way; convert it first")
        time = _seconds(frame, frame.pts)
        if time is not None:
            start = time if start is None else start
            if time >= start + seconds:
                break
            stamped = round((time - start) * rate)
            if not pieces or abs(stamped - position) > MAX_JITTER * rate:
                position = stamped
        for converted in packed.resample(frame):
            pieces.append((position, converted.to_ndarray().reshape(-1, channels).T))
            position += converted.samples
        _check_bytes(path, position / rate, channels, max(rate, sample_rate or rate))
    samples = max([0, *(at + piece.shape[1] for at, piece in pieces)])
    audio = np.zeros((channels, samples), np.float32)
    for at, piece in pieces:
        skipped = min(max(0, -at), piece.shape[1])  # what sounds before the start
        audio[:, at + skipped : at + piece.shape[1]] = piece[:, skipped:]
    if not np.isfinite(audio).all():
        raise InputError(f"{path}: the sound holds NaN or infinite samples; name another file")
    if sample_rate is None or sample_rate == rate:
        return audio, rate
    return resample_audio(audio, rate, sample_rate), sample_rate
