"""Progress with a live picture. Every report is also where an interrupt takes effect."""

from __future__ import annotations

import math

import comfy.model_management
import comfy.utils
import numpy as np
from einops import rearrange
from PIL import Image, ImageDraw

PREVIEW_SIZE = 512
PREVIEW_FRAMES = 9
CURVE_POINTS = 256


class Progress:
    """A callback (done, total, picture) for the node that runs. Raises ComfyUI's interrupt: never catch it."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)
        self._done, self._total = 0, total
        self._blocks, self._blocks_of_a_step = 0, 0.0  # begun in this step, and in the one before
        comfy.model_management.throw_exception_if_processing_interrupted()

    def before_block(self) -> None:
        """Before each block of a network. From the second step on the bar moves within a step, too: by the blocks that
        the step before had."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._blocks += 1
        if self._blocks < self._blocks_of_a_step and self._done < self._total:
            value = self._done + self._blocks / self._blocks_of_a_step
            self._bar.update_absolute(value, self._total)  # pyright: ignore[reportArgumentType]: it takes fractions, too

    def __call__(self, done: int, total: int, picture: Image.Image | None = None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if done > self._done:
            self._blocks_of_a_step = self._blocks / (done - self._done)
        self._done, self._total, self._blocks = done, total, 0
        preview = None if picture is None else ("JPEG", picture, PREVIEW_SIZE)
        self._bar.update_absolute(done, total, preview)


def contact_sheet(frames: np.ndarray) -> Image.Image:
    """Some frames of uint8 [F, h, w, 3], evenly chosen, side by side in rows: how a single picture shows motion."""
    count = min(PREVIEW_FRAMES, len(frames))
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    blank = np.zeros((rows * columns - count, *chosen.shape[1:]), np.uint8)
    sheet = rearrange(np.concatenate([chosen, blank]), "(r c) h w d -> (r h) (c w) d", c=columns)
    scale = PREVIEW_SIZE / max(sheet.shape[:2])
    size = round(sheet.shape[1] * scale), round(sheet.shape[0] * scale)
    return Image.fromarray(sheet).resize(size, Image.Resampling.BICUBIC)


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
        picture = Image.new("RGB", (PREVIEW_SIZE, PREVIEW_SIZE // 2), "#202020")
        pen, room = ImageDraw.Draw(picture), 24
        across = np.linspace(room, picture.width - room, len(self._means))
        share = (np.array(self._means) - low) / (high - low or 1)
        down = picture.height - room - share * (picture.height - 3 * room)
        pen.line([*zip(across.tolist(), down.tolist(), strict=True)], "#6ab0f3", width=2)
        pen.text((room, room / 2), f"loss {self._means[-1]:.4f}", "white")
        return picture
