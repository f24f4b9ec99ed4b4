"""Progress with a live picture. Every report is also where an interrupt takes effect."""

from __future__ import annotations

import time
from dataclasses import dataclass

import comfy.cli_args
import comfy.model_management
import comfy.utils
import numpy as np
from PIL import Image, ImageDraw

CURVE_SIZE = 512, 256
PICTURES_A_SECOND = 8  # of a film, at most: each is coded and sent
STRIP = 8  # a film's height is so many times that of the curve under it
CURVE_POINTS = 256
DARK, BLUE = "#202020", "#6ab0f3"


@dataclass(frozen=True)
class Film:
    """A clip by now: small frames, uint8 [F, h, w, 3], and how loud its sound is over the same time, [l] in 0..1."""

    frames: np.ndarray
    loudness: np.ndarray
    fps: float

    def at(self, seconds: float, size: int) -> Image.Image:
        """The frame of this time, and under it the curve of the loudness with a line where the frame is. The film goes
        round and round. size: pixels of the longer side."""
        count, height, width = self.frames.shape[:3]
        index, low = int(seconds * self.fps) % count, size // STRIP
        scale = min(size / width, (size - low) / height)
        wide, high = max(1, round(width * scale)), max(1, round(height * scale))
        picture = Image.new("RGB", (wide, high + low), DARK)
        picture.paste(Image.fromarray(self.frames[index]).resize((wide, high), Image.Resampling.BICUBIC))
        pen = ImageDraw.Draw(picture)
        across = (np.arange(-1, len(self.loudness) + 1) + 0.5).clip(0, len(self.loudness)) / len(self.loudness) * wide
        down = high + (1 - np.pad(self.loudness, 1, "edge")) * low
        curve = [*zip(across.tolist(), down.tolist(), strict=True)]
        pen.polygon([(0, high + low), *curve, (wide, high + low)], BLUE)
        now = (index + 0.5) / count * wide
        pen.line([(now, high), (now, high + low)], "white", width=2)
        return picture


class Progress:
    """A callback (done, total, picture) for the node that runs. A film plays on at its own speed until the next report,
    as far as blocks begin. Raises ComfyUI's interrupt: never catch it."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)
        self._done, self._total = 0, total
        self._value = 0.0  # of the bar: the steps that are done, and a share of the one that is not
        self._blocks, self._blocks_of_a_step = 0, 0.0  # begun in this step, and in the one before
        self._film: Film | None = None
        self._began, self._shown = 0.0, 0.0  # on the clock, in seconds: the film, and its last picture
        comfy.model_management.throw_exception_if_processing_interrupted()

    def before_block(self) -> None:
        """Before each block of a network. From the second step on the bar moves within a step, too: by the blocks that
        the step before had."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._blocks += 1
        moves = self._blocks < self._blocks_of_a_step and self._done < self._total
        if moves:
            self._value = self._done + self._blocks / self._blocks_of_a_step
        due = self._done < self._total and time.monotonic() - self._shown >= 1 / PICTURES_A_SECOND
        picture = self._next_picture() if due else None
        if moves or picture is not None:
            self._send(picture)

    def __call__(self, done: int, total: int, picture: Image.Image | Film | None = None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if done > self._done:
            self._blocks_of_a_step = self._blocks / (done - self._done)
        self._done, self._value, self._total, self._blocks = done, done, total, 0
        if isinstance(picture, Film):
            self._film, self._began = picture, self._began or time.monotonic()
            picture = self._next_picture()
        self._send(picture)

    def _next_picture(self) -> Image.Image | None:
        if self._film is None:
            return None
        self._shown = time.monotonic()
        return self._film.at(self._shown - self._began, comfy.cli_args.args.preview_size)

    def _send(self, picture: Image.Image | None) -> None:
        preview = None if picture is None else ("JPEG", picture, comfy.cli_args.args.preview_size)
        self._bar.update_absolute(self._value, self._total, preview)  # pyright: ignore[reportArgumentType]: fractions too


class LossCurve:
    """The loss of a training so far, as a picture."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._recent: list[float] = []
        self._each = 1  # steps of a point of the curve

    def draw(self, loss: float) -> Image.Image:
        """With the loss of the next step."""
        self._recent.append(loss)
        if len(self._recent) == self._each:
            self._means.append(float(np.mean(self._recent)))
            self._recent.clear()
        if len(self._means) == CURVE_POINTS:
            self._means, self._each = np.reshape(self._means, (-1, 2)).mean(1).tolist(), 2 * self._each
        low, high = min(self._means), max(self._means)
        picture = Image.new("RGB", CURVE_SIZE, DARK)
        pen, room = ImageDraw.Draw(picture), 24
        across = np.linspace(room, picture.width - room, len(self._means))
        share = (np.array(self._means) - low) / (high - low or 1)
        down = picture.height - room - share * (picture.height - 3 * room)
        pen.line([*zip(across.tolist(), down.tolist(), strict=True)], BLUE, width=2)
        pen.text((room, room / 2), f"loss {self._means[-1]:.4f}", "white")
        return picture
