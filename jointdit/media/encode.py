"""Clips into files: H.264 and AAC in .mp4, VP9 and Opus in .webm."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import cast

import av
import numpy as np
from av import AudioStream, VideoStream
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace

from ..errors import InputError
from .files import target_file, whole_file

BT709 = 1  # the number of BT.709 in the three colour fields of H.264 and VP9 (ITU-T H.273)
AUDIO_BIT_RATE = 160_000  # per channel; the encoders lower it where the sample rate allows less
_LAYOUTS = {1: "mono", 2: "stereo"}


@dataclass(frozen=True)
class _Format:
    container: str
    container_options: dict[str, str]
    video: str
    video_options: dict[str, str]
    crf: int
    max_crf: int
    audio: str
    rates: tuple[int, ...]  # Hz; sound of another rate is resampled to the next higher one, or the highest


_FORMATS = {
    ".mp4": _Format(
        container="mp4",
        container_options={"movflags": "+faststart", "fflags": "+bitexact"},
        video="libx264",
        # Without B-frames the picture starts at time zero in players that ignore edit lists, too.
        video_options={"preset": "medium", "bf": "0"},
        crf=15,
        max_crf=51,
        audio="aac",
        rates=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ),
    ".webm": _Format(
        container="webm",
        container_options={"fflags": "+bitexact"},
        video="libvpx-vp9",
        video_options={"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
        crf=20,
        max_crf=63,
        audio="libopus",
        rates=(48000,),
    ),
}


def write_video(
    path: str | PathLike[str],
    frames: np.ndarray,
    fps: Fraction,
    audio: np.ndarray,
    sample_rate: int,
    *,
    crf: int | None = None,
    overwrite: bool = True,
    comment: str | None = None,
) -> None:
    """Write frames with their sound to `path`: .mp4 (H.264 and AAC) or .webm (VP9 and Opus), in 8-bit 4:2:0 that
    browsers play.

    Every frame lasts exactly 1 / fps (in .webm rounded to its clock of 1 ms). The sound starts at time zero and ends
    with the video: what the encoder puts before it is taken off by the players (edit list, codec delay).

    frames: uint8 [T, H, W, 3], sRGB.
    audio: float32 [channels, samples] in -1..1, as long as the frames; [1, 0] writes a video without sound.
    crf: constant rate factor, lower is better and larger; default 15 (H.264, 1 to 51) or 20 (VP9, 1 to 63).
    comment: text that the file carries, such as what made it.

    `path` appears when it is complete; nothing is left behind if writing fails or is interrupted.
    Raises InputError for another suffix, an odd height or width, a crf out of range, or a path that cannot be written.
    """
    size, channels = (frames.shape[1], frames.shape[2]), len(audio)
    pieces = [Piece(frames, audio)]
    channels = channels if audio.shape[1] else 0
    write_pieces(path, pieces, size, fps, channels, sample_rate, crf=crf, overwrite=overwrite, comment=comment)


@dataclass(frozen=True, eq=False)
class Piece:
    """The next part of a clip. frames: uint8 [n, H, W, 3].    audio: float32 [channels, m] in -1..1. Both go on where
    those of the piece before end."""

    frames: np.ndarray
    audio: np.ndarray


def write_pieces(
    path: str | PathLike[str],
    pieces: Iterable[Piece],
    size: tuple[int, int],
    fps: Fraction,
    channels: int,
    sample_rate: int,
    *,
    crf: int | None = None,
    overwrite: bool = True,
    comment: str | None = None,
) -> None:
    """`write_video` of a clip that comes in pieces, each written as it comes: memory does not grow with their number.

    size: height and width.    channels: of the sound; 0 is none.
    """
    check_clip_path(path, overwrite)
    suffix = Path(path).suffix.lower()
    target = _FORMATS[suffix]
    height, width = size
    if height % 2 or width % 2:
        even = f"{width + width % 2}x{height + height % 2}"
        raise InputError(f"{path}: a video of {width}x{height} cannot be written; the nearest even size is {even}")
    if channels:
        check_channels(path, channels)
    crf = target.crf if crf is None else crf
    if not 1 <= crf <= target.max_crf:
        raise InputError(f"crf is {crf}, but must be from 1 (best) to {target.max_crf} for {suffix}")

    with whole_file(path, overwrite) as temporary:
        with av.open(
            str(temporary), "w", format=target.container, container_options=target.container_options
        ) as container:
            if comment is not None:
                container.metadata["comment"] = comment
            feed = _Feed(pieces, with_audio=channels > 0)
            packets = [_video_packets(container, target, feed.frames(), size, fps, crf)]
            if channels:
                packets.append(_audio_packets(container, target, feed.audio(), channels, sample_rate))
            # In the order of time, so that a player never waits for one of the two.
            for packet in heapq.merge(*packets, key=_seconds):
                container.mux(packet)


class _Feed:
    """Frames and sounds of the same pieces, each taken at its own pace."""

    def __init__(self, pieces: Iterable[Piece], with_audio: bool) -> None:
        self._pieces, self._with_audio = iter(pieces), with_audio
        self._frames: deque[np.ndarray] = deque()
        self._audio: deque[np.ndarray] = deque()

    def frames(self) -> Iterator[np.ndarray]:
        """Frame by frame, uint8 [H, W, 3]."""
        for frames in self._taken(self._frames):
            yield from frames

    def audio(self) -> Iterator[np.ndarray]:
        """Piece by piece."""
        return self._taken(self._audio)

    def _taken(self, waiting: deque[np.ndarray]) -> Iterator[np.ndarray]:
        while True:
            while waiting:
                yield waiting.popleft()
            piece = next(self._pieces, None)
            if piece is None:
                return
            self._frames.append(piece.frames)
            if self._with_audio and piece.audio.shape[1]:
                self._audio.append(piece.audio)


def check_clip_path(path: str | PathLike[str], overwrite: bool = True) -> None:
    """Raise InputError if `write_video` could not write to `path`: to be asked before the work that makes the clip."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise InputError(f"{path}: videos are written as {' or '.join(_FORMATS)}, not {suffix!r}; change the ending")
    target_file(path, overwrite)


def check_channels(source: str | PathLike[str], channels: int) -> None:
    """Raise InputError, which names `source`, if `write_video` cannot hold a sound of so many channels."""
    if channels not in _LAYOUTS:
        raise InputError(f"{source}: the sound has {channels} channels; mix it down to 1 or 2")


def _seconds(packet: av.Packet) -> Fraction:
    assert packet.dts is not None, "encoders give every packet its time"
    return packet.dts * packet.time_base


def _video_packets(
    container: OutputContainer,
    target: _Format,
    frames: Iterable[np.ndarray],
    size: tuple[int, int],
    fps: Fraction,
    crf: int,
) -> Iterator[av.Packet]:
    """Adds the stream at once; its packets come when they are asked for."""
    options = {**target.video_options, "crf": str(crf)}
    stream = cast(VideoStream, container.add_stream(target.video, rate=fps, options=options))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = 1 / fps
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.colorspace = BT709
    stream.codec_context.color_primaries = BT709
    stream.codec_context.color_trc = BT709

    def packets() -> Iterator[av.Packet]:
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts, frame.time_base = index, 1 / fps
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def _audio_packets(
    container: OutputContainer, target: _Format, audio: Iterable[np.ndarray], channels: int, sample_rate: int
) -> Iterator[av.Packet]:
    """Adds the stream at once; its packets come when they are asked for."""
    rate = min((rate for rate in target.rates if rate >= sample_rate), default=max(target.rates))
    stream = cast(AudioStream, container.add_stream(target.audio, rate=rate, layout=_LAYOUTS[channels]))
    stream.bit_rate = AUDIO_BIT_RATE * channels

    def packets() -> Iterator[av.Packet]:
        done = 0
        for piece in audio:
            samples = np.ascontiguousarray(np.clip(piece, -1, 1))
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=_LAYOUTS[channels])
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, done, Fraction(1, sample_rate)
            yield from stream.encode(frame)
            done += piece.shape[1]
        yield from stream.encode(None)

    return packets()
