"""What a long clip is made from and made into, piece by piece: memory does not grow with its length."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..diffusion.windows import ramp
from ..encoders.autoencoders import fade
from ..encoders.mel import HOP
from ..encoders.mel_inversion import BEGINNING
from ..latents import ClipShape, Windows
from ..media import Clip, Piece, fit_audio, fit_image, measure_video, stream_clip, write_pieces
from ..media.image import Fit
from .components import JointDiTComponents
from .decode import LOUDEST
from .encode import as_pixels
from .settings import chosen

VOCODER_SIGHT = 32  # mel frames on each side beyond which no vocoder of AudioLDM2's kind looks
NO_SOUND = np.zeros((1, 0), np.float32)
FRAMES_SEEN = 2  # before the first of a piece, decoded once more, so that its norms and convolutions know them


@dataclass(frozen=True, eq=False)
class LongClip:
    """A clip that is made while its pieces are taken, once.

    shape: of the whole.    channels, sample_rate: of its sound.    pieces: one after the other.
    """

    shape: ClipShape
    channels: int
    sample_rate: int
    pieces: Iterator[Piece]

    @classmethod
    def of(cls, clip: Clip) -> LongClip:
        """A clip that is there."""
        channels = len(clip.audio) if clip.has_audio else 0
        return cls(clip.shape, channels, clip.sample_rate, iter([Piece(clip.frames, clip.audio)]))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        crf: int | None = None,
        overwrite: bool = True,
        comment: str | None = None,
    ) -> None:
        """Writes it as it is made, as `Clip.save` does."""
        shape, named = self.shape, {"crf": crf, "overwrite": overwrite, "comment": comment}
        size = shape.height, shape.width
        write_pieces(path, self.pieces, size, shape.fps, self.channels, self.sample_rate, **named)

    def read(self) -> Clip:
        """All of it in memory."""
        pieces = list(self.pieces)
        frames, audio = (
            np.concatenate([each.frames for each in pieces]),
            np.concatenate([each.audio for each in pieces], axis=1),
        )
        return Clip(frames, self.shape.fps, audio, self.sample_rate)


@dataclass(frozen=True)
class GivenVideo:
    """A video whose frames can be read again and again, each time from the start. shape: of the video itself."""

    shape: ClipShape
    frames: Callable[[], Iterator[np.ndarray]]

    @classmethod
    def of(cls, video: Clip | str | os.PathLike[str], max_seconds: float | None = None) -> GivenVideo:
        """A clip, or a file, which is decoded once to measure it. Raises InputError as `read_clip` does."""
        if isinstance(video, Clip):
            return cls(video.shape, lambda: iter(video.frames))
        frames, fps, height, width = measure_video(video, max_seconds=max_seconds)

        def read() -> Iterator[np.ndarray]:
            with stream_clip(video, max_seconds=max_seconds, sound=False) as stream:
                for picture, steps in stream.pictures:
                    for _ in range(steps):
                        yield picture

        return cls(ClipShape(frames, fps, height, width), read)

    def at(self, shape: ClipShape, fit: Fit) -> Iterator[np.ndarray]:
        """Frames at the rate and the size of a shape: of each the one that is shown at its middle."""
        wanted = 0
        for index, frame in enumerate(self.frames()):
            last = index == self.shape.frames - 1
            while wanted < shape.frames and (last or self._shown_at(wanted, shape.fps) <= index):
                yield fit_image(frame, shape.height, shape.width, fit)
                wanted += 1

    def in_memory(self) -> Clip:
        """All of its frames, without a sound."""
        return Clip(np.stack(list(self.frames())), self.shape.fps, NO_SOUND, 16000)

    def _shown_at(self, index: int, fps: Fraction) -> int:
        return int((index + Fraction(1, 2)) / fps * self.shape.fps)


class EncodedVideo:
    """The latents of a given video, in order, and the frames that they are of; what lies behind is forgotten."""

    def __init__(self, pipe: JointDiTComponents, frames: Iterator[np.ndarray]) -> None:
        self._pipe, self._frames = pipe, frames
        self._start = 0
        self._seen: list[np.ndarray] = []
        self._latents: Tensor | None = None

    def of(self, group: Windows) -> tuple[list[np.ndarray], Tensor]:
        """The first frame of each window of a group, and the latents of all of it."""
        first = group.starts[0].frame
        seen, latents = self.take(first, first + group.frames)
        return [seen[start.frame - first] for start in group.starts], latents

    @torch.no_grad()
    def take(self, start: int, stop: int) -> tuple[list[np.ndarray], Tensor]:
        """Frames uint8 [H, W, 3] and latents [1, F, C, h, w] from `start`, which never falls, up to `stop`."""
        behind = start - self._start
        self._seen, self._start = self._seen[behind:], start
        new = list(islice(self._frames, stop - start - len(self._seen)))
        self._seen += new
        parts = [] if self._latents is None else [self._latents[:, behind:]]
        if new:
            with self._pipe.using("video_vae"):
                pixels = as_pixels(np.stack(new))[None].to(self._pipe.device)
                parts.append(self._pipe.video_codec.encode_video(pixels).cpu())
        self._latents = torch.cat(parts, 1)
        return self._seen, self._latents


class DecodedVideo:
    """Frames of latents that come in order. overlap: of chunks, if it is more than the frames that are seen anyway."""

    def __init__(self, pipe: JointDiTComponents, chunk_size: int | None, overlap: int = 0) -> None:
        self._pipe, self._chunk = pipe, chosen(chunk_size, pipe.memory.decode_chunk)
        self._overlap = min(max(overlap, FRAMES_SEEN), self._chunk - 1)
        self._before: Tensor | None = None

    @torch.no_grad()
    def add(self, latents: Tensor) -> np.ndarray:
        """The next latents [1, F, C, h, w] as uint8 [F, H, W, 3]."""
        seen = 0 if self._before is None else self._before.shape[1]
        parts = latents if self._before is None else torch.cat([self._before, latents], 1)
        self._before = parts[:, -FRAMES_SEEN:]
        with self._pipe.using("video_vae"):
            frames = self._pipe.video_codec.decode_video(parts.to(self._pipe.device), self._chunk, self._overlap)
        return frames[0, seen:].numpy()


class DecodedSound:
    """The sound of windows that come in order: each is decoded as the model knows it, their log-mels are cross-faded
    where they overlap, and the vocoder runs on with what it sees on both sides of a piece, so that its pieces are those
    of one run. Where phases are sought after it, they go on from those of the piece before.

    samples: of the whole.
    """

    def __init__(self, pipe: JointDiTComponents, windows: Windows, samples: int) -> None:
        self._pipe, self._samples = pipe, samples
        factor = pipe.layout.mel_factor
        self._starts = [start.audio * factor for start in windows.starts]
        self._done = 0  # windows
        self._tail: Tensor | None = None  # mel of the window before, from the next one's start on
        self._mel: Tensor | None = None  # not yet heard in full, and what the vocoder sees before
        self._first = 0  # of `_mel`, in mel frames
        self._heard = 0  # mel frames that have become sound
        self._known: Tensor | None = None  # their sound, from `_first` on, and how the vocoder goes on

    @torch.no_grad()
    def add(self, latents: Tensor) -> np.ndarray:
        """The latents of the next window [1, C, l, m] -> what is finished, float32 [1, n]."""
        with self._pipe.using("audio_vae", "vocoder"):
            self._mel = self._crossfade(self._pipe.audio_codec.decode_mel(latents.to(self._pipe.device)))
            return self._vocode()

    @property
    def finished(self) -> bool:
        """Whether all windows are there."""
        return self._done == len(self._starts)

    def _crossfade(self, mel: Tensor) -> Tensor:
        """All mel from `_first` on that no later window changes."""
        if self._tail is not None:
            shared = self._tail.shape[1]
            weight = ramp(shared).to(mel)[:, None]
            mel = torch.cat([torch.lerp(self._tail, mel[:, :shared], weight), mel[:, shared:]], 1)
        start = self._starts[self._done]
        self._done += 1
        final = mel.shape[1] if self.finished else self._starts[self._done] - start
        self._tail = mel[:, final:]
        return mel[:, :final] if self._mel is None else torch.cat([self._mel, mel[:, :final]], 1)

    def _vocode(self) -> np.ndarray:
        assert self._mel is not None
        end = self._first + self._mel.shape[1]
        stop = end if self.finished else max(self._heard, end - VOCODER_SIGHT)
        whole = self._pipe.audio_codec.vocode(self._mel, self._known)
        sound = whole[:, (self._heard - self._first) * HOP : (stop - self._first) * HOP]
        if self.finished:
            sound = sound[:, : self._samples - self._heard * HOP]
        # A gain for a piece would be a step in level; a vocoder hardly ever goes beyond.
        sound = fade(sound.clamp(-LOUDEST, LOUDEST), start=self._heard == 0, end=self.finished).cpu().numpy()
        if self.finished:
            sound = fit_audio(sound, self._samples - self._heard * HOP, fade=0)
        period = max(1, len(self._pipe.audio_codec.clock))
        first = max(self._first, (stop - VOCODER_SIGHT) // period * period)
        self._known = whole[:, (first - self._first) * HOP : (stop - self._first) * HOP + BEGINNING]
        self._mel, self._first, self._heard = self._mel[:, first - self._first :], first, stop
        return sound


class GivenSound:
    """A sound that is kept, cut into pieces as long as those of the frames."""

    def __init__(self, audio: np.ndarray, rate: int, shape: ClipShape) -> None:
        self._audio, self._rate, self._shape = fit_audio(audio, shape.samples(rate)), rate, shape
        self._frames = self._samples = 0

    def beside(self, frames: int) -> np.ndarray:
        """What belongs to the next so many frames, float32 [channels, n]."""
        self._frames += frames
        stop = round(self._frames / self._shape.fps * self._rate)
        found, self._samples = self._audio[:, self._samples : stop], stop
        return found


class KeptFrames:
    """The frames of a given video, handed out as its sound comes."""

    def __init__(self, video: GivenVideo, frames: int, rate: int) -> None:
        self._frames, self._left, self._rate = video.frames(), frames, rate
        self._fps, self._size = video.shape.fps, (video.shape.height, video.shape.width)
        self._given = self._samples = 0

    def beside(self, samples: int, last: bool) -> np.ndarray:
        """What belongs to the next so much sound, or all that is left, uint8 [n, H, W, 3]."""
        self._samples += samples
        stop = self._left if last else min(self._left, int(Fraction(self._samples, self._rate) * self._fps))
        found: Sequence[np.ndarray] = list(islice(self._frames, max(0, stop - self._given)))
        self._given += len(found)
        return np.stack(found) if found else np.zeros((0, *self._size, 3), np.uint8)
