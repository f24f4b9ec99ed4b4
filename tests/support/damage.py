"""Pictures, sounds and videos of every kind that are read, small and made by code, and ways to damage them."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from hypothesis import strategies as st
from PIL import Image, features

from jointdit.media import read_audio, read_clip, read_image

LEVELS = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3)).astype(np.uint8)
SAMPLES = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 6000)).astype(np.float32)
SECONDS = 5  # of sound or video that are read; more is slow, not wrong


def _picture(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(LEVELS[0]).save(file, format, **options)
    return file.getvalue()


def _sound(format: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, SAMPLES.T, 16000, subtype, format=format)
    return file.getvalue()


def _video(container: str, codec: str, sound: str, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as made:
        picture = made.add_stream(codec, rate=16)
        picture.width, picture.height = LEVELS.shape[2], LEVELS.shape[1]
        picture.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        audio = made.add_stream(sound, rate=rate, layout="stereo")
        for level in LEVELS:
            made.mux(picture.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
        made.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(SAMPLES, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        made.mux(audio.encode(frame))
        made.mux(audio.encode(None))
    return file.getvalue()


def corpus() -> dict[str, dict[str, bytes]]:
    """Whole files by kind (picture, sound, video) and by suffix, with what tells two of one suffix apart before it."""
    pictures = {name: _picture(name) for name in ("png", "jpeg", "gif", "webp", "bmp", "ppm", "tga", "jpeg2000", "ico")}
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        pictures[f"{compression}.tif"] = _picture("tiff", compression=compression)
    if features.check("avif"):
        pictures["avif"] = _picture("avif")
    sounds = {name: _sound(name) for name in ("flac", "ogg", "aiff", "au", "mp3", "w64", "caf")}
    sounds |= {f"{subtype}.wav": _sound("wav", subtype) for subtype in ("PCM_16", "PCM_U8", "FLOAT", "MS_ADPCM")}
    videos = {
        "mp4": _video("mp4", "libx264", "aac"),
        "mov": _video("mov", "mpeg4", "pcm_s16le"),
        "h264.mkv": _video("matroska", "libx264", "flac"),
        "mjpeg.mkv": _video("matroska", "mjpeg", "ac3", 48000),
        "ffv1.mkv": _video("matroska", "ffv1", "pcm_s24le"),
        "webm": _video("webm", "libvpx-vp9", "libopus", 48000),
        "avi": _video("avi", "mpeg4", "mp3"),
    }
    return {"picture": pictures, "sound": sounds, "video": videos}


@st.composite
def damaged(draw: Callable, files: dict[str, bytes]) -> tuple[str, bytes]:
    """The suffix and the bytes of one of the files: cut off, with bytes changed (mostly near its start, where formats
    keep what they are), moved, doubled or put in."""
    name = draw(st.sampled_from(sorted(files)))
    data = bytearray(files[name])
    near = draw(st.sampled_from((64, 400, 2500, len(data))))
    place = st.integers(0, min(near, len(data)) - 1)
    for at, value in draw(st.lists(st.tuples(place, st.sampled_from((0, 1, 127, 128, 255)) | st.integers(0, 255)))):
        data[at] = value
    at, length = draw(place), draw(st.integers(1, 64))
    change = draw(st.sampled_from(("none", "cut", "drop", "double", "put", "zeros")))
    if change == "cut":
        del data[at + 1 :]
    elif change == "drop":
        del data[at : at + length]
    elif change == "double":
        data[at:at] = data[at : at + length]
    elif change == "put":
        data[at:at] = draw(st.binary(min_size=1, max_size=64))
    elif change == "zeros":
        data[at : at + length] = bytes(len(data[at : at + length]))
    return name, bytes(data)


def read(kind: str, path: Path) -> None:
    """Reads a file of one of the kinds in every way; what comes must be arrays as they are promised."""
    if kind == "picture":
        picture = read_image(path)
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    if kind != "picture":
        for rate in (None, 16000):
            audio, heard = read_audio(path, rate, max_seconds=SECONDS)
            assert audio.dtype == np.float32 and np.isfinite(audio).all() and heard == (rate or heard)
    if kind == "video":
        clip = read_clip(path, max_seconds=SECONDS, sample_rate=16000)
        assert clip.frames.dtype == np.uint8 and (clip.seconds <= SECONDS + 1 or len(clip.frames) == 1)
