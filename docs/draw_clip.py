"""Draws a clip as a picture: its frames in a strip over its waveform.

python docs/draw_clip.py clip.mp4 docs/clip.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from jointdit.media import Clip, read_clip

FRAME = 96  # pixels a side in the strip
WAVE = 120  # pixels, height of the waveform
EDGE = 8
BACKGROUND, LINE, WAVEFORM = (250, 250, 252), (205, 208, 216), (52, 88, 160)


def draw(clip: Clip, columns: int = 10) -> Image.Image:
    """Frames in rows of `columns`, each row over the sound of the same seconds."""
    rows = -(-len(clip.frames) // columns)
    width, band = columns * FRAME, FRAME + WAVE + EDGE
    sheet = Image.new("RGB", (width + 2 * EDGE, rows * band + EDGE), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    samples_per_pixel = clip.sample_rate / float(clip.fps) / FRAME
    loudest = np.abs(clip.audio).max() + 1e-9
    for index, frame in enumerate(clip.frames):
        row, column = divmod(index, columns)
        left, top = EDGE + column * FRAME, EDGE + row * band
        sheet.paste(Image.fromarray(frame).resize((FRAME, FRAME), Image.Resampling.LANCZOS), (left, top))
        pen.line([(left, top + FRAME), (left, top + FRAME + WAVE)], fill=LINE)
        middle = top + FRAME + WAVE // 2
        for x in range(FRAME):
            start = round((index * FRAME + x) * samples_per_pixel)
            piece = clip.audio[0, start : start + max(1, round(samples_per_pixel))]
            if len(piece):
                low, high = piece.min() / loudest, piece.max() / loudest
                reach = WAVE / 2 - 4
                pen.line([(left + x, middle - high * reach), (left + x, middle - low * reach)], fill=WAVEFORM)
    return sheet


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    draw(read_clip(source)).save(target, optimize=True)
