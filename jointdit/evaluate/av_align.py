"""AV-Align (Yariv et al. 2023, 2309.16429), computed as its authors' code does (av_align.py of
github.com/guyyariv/TempoTokens, as of 2025).

Peaks of OpenCV's Farneback flow at full size, of 0.1 pixels or more, at j / fps; librosa's onsets at 22.05 kHz; each
onset takes the first free peak less than a frame away; and what matched over all that there is. Needs the extra
`av-align`, OpenCV and librosa, because other implementations of either find other peaks. So do other decoders, which
round colours in another way: where there is a file, OpenCV reads its pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..media import Clip

RATE = 22_050  # Hz, to which librosa.load resamples
LEAST_FLOW = 0.1  # pixels

AVAILABLE = find_spec("cv2") is not None and find_spec("librosa") is not None


@dataclass(frozen=True, eq=False)
class Peaks:
    """What happens in one clip. seen, heard: seconds, rising."""

    seen: NDArray[np.float64]
    heard: NDArray[np.float64]
    fps: float


def find_peaks(clip: Clip, path: Path | None = None) -> Peaks:
    """path: the file that the clip is from, or the beginning of; one that OpenCV cannot read is as if there were none.

    Raises ModuleNotFoundError without the extra `av-align`.
    """
    fps = float(clip.fps)
    rate, frames = _opened(path, len(clip.frames) / fps) if path else (0.0, iter(()))
    speeds = flow_speeds(frames)
    if not speeds:
        rate, speeds = fps, flow_speeds(clip.frames)
    return Peaks(np.array(flow_peaks(speeds, rate)), _onsets(clip), rate)


def _opened(path: Path, seconds: float) -> tuple[float, Iterator[NDArray[np.uint8]]]:
    """Frames a second of a file, and its first frames, RGB."""
    import cv2  # pyright: ignore[reportMissingImports]

    video = cv2.VideoCapture(str(path))
    rate = float(video.get(cv2.CAP_PROP_FPS))

    def frames() -> Iterator[NDArray[np.uint8]]:
        while (read := video.read())[0]:
            yield np.asarray(read[1][..., ::-1], np.uint8)

    return rate, islice(frames(), max(0, round(seconds * rate)))


def flow_speeds(frames: Iterable[NDArray[np.uint8]]) -> list[float]:
    """Mean length of the flow into each frame [H, W, 3] in pixels; the first is that of the second."""
    import cv2  # pyright: ignore[reportMissingImports]

    grey = (cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames)
    speeds = []
    for before, after in pairwise(grey):
        room = np.zeros((*before.shape, 2), np.float32)
        flow = cv2.calcOpticalFlowFarneback(before, after, room, 0.5, 3, 15, 3, 5, 1.2, 0)
        speeds.append(float(cv2.mean(cv2.magnitude(flow[..., 0], flow[..., 1]))[0]))
    return speeds[:1] + speeds


def flow_peaks(speeds: list[float], fps: float) -> list[float]:
    """Times in seconds of strict local maxima that are fast enough."""
    inner = range(1, len(speeds) - 1)
    return [j / fps for j in inner if speeds[j - 1] < speeds[j] > speeds[j + 1] and speeds[j] >= LEAST_FLOW]


def _onsets(clip: Clip) -> NDArray[np.float64]:
    import librosa  # pyright: ignore[reportMissingImports]

    mono = librosa.to_mono(np.ascontiguousarray(clip.audio))
    sound = librosa.resample(mono, orig_sr=clip.sample_rate, target_sr=RATE)
    strength = librosa.onset.onset_strength(y=sound, sr=RATE)
    return librosa.frames_to_time(librosa.onset.onset_detect(onset_envelope=strength, sr=RATE), sr=RATE)


def av_align(picture: Peaks, sound: Peaks) -> float:
    """AV-Align, 0 to 1, of the picture of one clip and the sound of the same or another. NaN where nothing happens in
    either, of which the authors' code makes an error."""
    free = [True] * len(picture.seen)
    for heard in sound.heard:
        for index, seen in enumerate(picture.seen):
            if free[index] and seen - 1 / picture.fps < heard < seen + 1 / picture.fps:
                free[index] = False
                break
    matched = free.count(False)
    union = len(sound.heard) + len(picture.seen) - matched
    return matched / union if union else float("nan")
