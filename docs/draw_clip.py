"""Draws a clip as a moving picture: the playing frame beside a strip of all frames and the waveform, under one cursor.

python docs/draw_clip.py clip.mp4 docs/clip.webp
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from jointdit.media import Clip, read_clip

FRAME, EDGE = 256, 12  # pixels: side of the playing frame, and the margin around everything
WIDTH, STRIP = 600, 60  # of the strip, which shows the middle of each frame
WAVE, AXIS = 160, 20  # heights of the waveform and of the seconds below it
CURSORS = 2  # cursor positions for each frame of the clip
PAUSE = 1000  # milliseconds on the last picture, before it starts again
BACKGROUND, TEXT, AHEAD, PLAYED, CURSOR = (
    (250, 250, 252), (110, 114, 124), (178, 188, 208), (38, 78, 160), (220, 60, 40),
)  # fmt: skip


def draw(clip: Clip) -> list[Image.Image]:
    """The pictures of the animation, `CURSORS` for each frame of the clip."""
    left, top = FRAME + 2 * EDGE, EDGE + STRIP
    sheet = Image.new("RGB", (left + WIDTH + EDGE, FRAME + 2 * EDGE), BACKGROUND)
    edges = [left + round(index / len(clip.frames) * WIDTH) for index in range(len(clip.frames) + 1)]
    for frame, (start, end) in zip(clip.frames, pairwise(edges), strict=True):
        middle = ImageOps.fit(Image.fromarray(frame), (end - start, STRIP), Image.Resampling.LANCZOS)
        sheet.paste(middle, (start, EDGE))
    pen = ImageDraw.Draw(sheet)
    seconds = float(clip.seconds)
    for tenth in range(0, int(seconds * 10) + 1, 5):
        x = left + round(tenth / 10 / seconds * WIDTH)
        pen.text((x, top + WAVE + 4), f"{tenth / 10:g} s", fill=TEXT, anchor="ma" if tenth else "la")
    lows, highs = _envelope(clip.audio[0], WIDTH)

    pictures = []
    for index in range(len(clip.frames) * CURSORS):
        picture = sheet.copy()
        frame = Image.fromarray(clip.frames[index // CURSORS])
        picture.paste(ImageOps.fit(frame, (FRAME, FRAME), Image.Resampling.LANCZOS), (EDGE, EDGE))
        pen = ImageDraw.Draw(picture)
        cursor = round((index + 0.5) / len(clip.frames) / CURSORS * WIDTH)
        middle, reach = top + WAVE / 2, WAVE / 2 - 6
        for x, (low, high) in enumerate(zip(lows, highs, strict=True)):
            colour = PLAYED if x <= cursor else AHEAD
            pen.line([(left + x, middle - high * reach), (left + x, middle - low * reach)], fill=colour)
        pen.line([(left + cursor, EDGE), (left + cursor, top + WAVE)], fill=CURSOR, width=2)
        pictures.append(picture)
    return pictures


def _envelope(samples: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest sample of each column, relative to the loudest of all."""
    edges = np.linspace(0, len(samples), columns + 1).astype(int)
    scaled = samples / max(np.abs(samples).max(), 1e-9)
    pieces = [scaled[start:end] for start, end in pairwise(edges)]
    return np.array([piece.min() for piece in pieces]), np.array([piece.max() for piece in pieces])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("picture", type=Path, help="a .webp")
    arguments = parser.parse_args()
    clip = read_clip(arguments.clip)
    first, *others = draw(clip)
    durations = [round(1000 / float(clip.fps) / CURSORS)] * len(others) + [PAUSE]
    first.save(arguments.picture, save_all=True, append_images=others, duration=durations, loop=0, quality=90, method=6)


if __name__ == "__main__":
    main()
