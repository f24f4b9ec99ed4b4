"""What is seen of a clip: while it is made, and the files that came of it."""

from __future__ import annotations

import base64
import filecmp
import html
import io
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..cli.generate import SAMPLE
from ..cli.jobs import Job
from ..cli.making import Maker
from ..cli.outputs import recipe_of
from ..media import Clip
from ..media.sound import write_wav
from .clips import FILES, command_line
from .graph import left_out, workflow

PREVIEW_SIDE, PREVIEW_FRAMES, PREVIEW_SECONDS = 256, 48, 0.1


class Made(NamedTuple):
    """A clip: paths of its files, the command that makes it again, and what is said of it."""

    thumbnail: str
    video: str
    sound: str
    graph: str
    command: str
    plot: str | None
    said: str

    @property
    def shown(self) -> tuple[str | None, ...]:
        """All of it but its thumbnail."""
        return self[1:]


def bar(text: str, done: int, total: int, picture: str = "") -> str:
    """A line, a bar, and below it what `moving` made, as HTML."""
    count = f" {done}/{total}" if total > 1 else ""
    return f"{html.escape(text)}{count}<progress value={done} max={max(total, 1)}></progress>{picture}"


def moving(frames: np.ndarray) -> str:
    """The moving picture of what the clip looks like by now, uint8 [F, h, w, 3], as HTML."""
    picture = base64.b64encode(animation(frames)).decode()
    return f'<img alt="the clip so far" src="data:image/webp;base64,{picture}">'


def animation(frames: np.ndarray) -> bytes:
    """uint8 [F, h, w, 3] as a small animated WebP; of a long clip some of its frames."""
    apart = -(-len(frames) // PREVIEW_FRAMES)
    frames = frames[::apart]
    scale = PREVIEW_SIDE / max(frames.shape[1:3])
    size = max(1, round(frames.shape[2] * scale)), max(1, round(frames.shape[1] * scale))
    first, *others = (Image.fromarray(each).resize(size, Image.Resampling.BICUBIC) for each in frames)
    file, duration = io.BytesIO(), round(1000 * PREVIEW_SECONDS * apart)
    first.save(file, "WEBP", save_all=True, append_images=others, duration=duration, loop=0, quality=60, method=0)
    return file.getvalue()


def write(clip: Clip, maker: Maker, texts: Mapping[str, str], folder: Path) -> Made:
    """Writes the files of a clip. texts: what was asked for, by option."""
    options = maker.options
    names = {name: Path(texts[name]).name for name in FILES if name in texts}
    if "image" in texts and filecmp.cmp(texts["image"], SAMPLE, shallow=False):
        del names["image"]  # the command takes it where no picture is named
    stem = f"{Path(texts.get('image') or texts['video']).stem}_seed{options['seed']}"
    path = Path(tempfile.mkdtemp(dir=folder)) / stem
    player, sound, graph, small, plot = (
        path.with_name(stem + ending) for ending in (".mp4", ".wav", ".json", ".webp", ".png")
    )
    known = {name: text for name, text in texts.items() if name not in FILES} | names
    job = Job(Path(names["image"]) if "image" in names else None, options["prompt"], options["seed"], player)
    clip.save(player, comment=recipe_of(known, job))
    write_wav(sound, clip.audio, clip.sample_rate)
    small.write_bytes(animation(clip.frames))
    graph.write_text(workflow(options, names, maker), encoding="utf-8")
    figure, scores = _sync(clip)
    if figure is not None:
        Image.fromarray(figure).save(plot)
    return Made(
        str(small),
        str(player),
        str(sound),
        str(graph),
        command_line(known, player.name),
        None if figure is None else str(plot),
        "<br>".join(html.escape(line) for line in [*_said(clip, options, texts), *scores]),
    )


def _said(clip: Clip, options: Mapping[str, Any], texts: Mapping[str, str]) -> list[str]:
    frames, height, width, _ = clip.frames.shape
    lines = [f"{frames} frames, {float(clip.fps):.6g} fps, {width}x{height}, seed {options['seed']}"]
    if lacking := left_out(texts):
        lines.append(f"The workflow leaves out {', '.join(lacking)}, which no node has: its clip differs.")
    return lines


def _sync(clip: Clip) -> tuple[np.ndarray | None, list[str]]:
    """The plot of motion and loudness and its scores, where the extra `evaluate` is installed and there is a sound."""
    if not clip.has_audio or not all(find_spec(each) for each in ("scipy", "matplotlib", "skimage", "sklearn")):
        return None, []
    from ..evaluate import draw_sync
    from ..evaluate.clip import score_clip

    return draw_sync(clip), score_clip(clip).lines()
