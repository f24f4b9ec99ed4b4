"""Sounding scenes with exact ground truth, endless and seeded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .arrays import Picture, Sound
from .captions import draw_caption
from .effects import COLOURED, EFFECTS, REGISTRY
from .effects.materials import COLOURS
from .textures import PictureSource, check_picture, cover, procedural_picture
from .timeline import MIN_FRAMES, MIN_SECONDS, SAMPLE_RATE, Timeline, draw_events, draw_knots, draw_strengths

MIN_SIDE = 16


@dataclass(frozen=True, eq=False)
class Scene:
    """A short sounding video and all that is true of it.

    frames: uint8 [T, H, W, 3]; the first is `picture` itself.    audio: float32 [samples] at `sample_rate` Hz.
    events: seconds at which something is seen and heard: from the first frame j with j / fps >= t on, and from sample
    ceil(t * sample_rate) on. Empty for continuous effects, whose `curve` [T] holds the intensity of each frame.
    """

    effect: str
    caption: str
    frames: NDArray[np.uint8]
    fps: Fraction
    audio: Sound
    sample_rate: int
    events: tuple[float, ...]
    curve: NDArray[np.float32] | None
    picture: Picture
    parameters: dict[str, Any]


def render_scene(
    seed: int,
    *,
    frames: int = 20,
    fps: Fraction | float = Fraction(25, 2),
    height: int = 128,
    width: int = 128,
    effect: str | None = None,
    colour: str | None = None,
    picture: Picture | None = None,
    pictures: PictureSource | None = None,
) -> Scene:
    """The scene of a seed: the same arguments give the same bytes.

    effect: one of `EFFECTS`, drawn if None.    colour: one of `COLOURS`, for effects in `COLOURED`, drawn if None; all
    else, the sound too, is the same in every colour.    picture: uint8 [H, W, 3], cropped to fit; else drawn from
    `pictures`, or procedural. The effect, its times and its caption do not depend on the picture.
    Raises InputError, naming the value, for what cannot be rendered.
    """
    fps = Fraction(fps).limit_denominator(1001)
    if seed < 0:
        raise InputError(f"seed is {seed}, but must be 0 or above")
    if min(height, width) < MIN_SIDE:
        raise InputError(f"size is {width}x{height}, but both sides must be at least {MIN_SIDE}")
    if fps <= 0 or frames < MIN_FRAMES or frames / fps < MIN_SECONDS:
        raise InputError(f"{frames} frames at {fps} fps: give at least {MIN_FRAMES} frames and {MIN_SECONDS} seconds")
    if effect is not None and effect not in REGISTRY:
        raise InputError(f"effect is {effect!r}, but must be one of {', '.join(EFFECTS)}")
    if colour is not None and colour not in COLOURS:
        raise InputError(f"colour is {colour!r}, but must be one of {', '.join(COLOURS)}")
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(5)]
    choice, times, look, sound, words = streams
    drawn = str(choice.choice(EFFECTS))
    cls = REGISTRY[effect or drawn]
    if colour is not None and cls.name not in COLOURED:
        raise InputError(f"colour {colour}: no choice for {cls.name}; give an effect of {', '.join(COLOURED)}")
    if picture is None:
        picture = pictures.draw(choice, height, width) if pictures else procedural_picture(choice, height, width)
    else:
        check_picture(picture)
        picture = cover(picture, height, width)
    if cls.continuous:
        timeline = Timeline(frames, fps, knots=draw_knots(times, frames, fps))
    else:
        events = draw_events(times, frames, fps)
        timeline = Timeline(frames, fps, events, draw_strengths(times, events))
    painter = cls.draw(look, len(timeline.events))
    if colour is not None:
        painter = replace(painter, **{"colour": colour})
    return Scene(
        effect=cls.name,
        caption=draw_caption(words, cls.name, painter.words()),
        frames=painter.render(picture, timeline),
        fps=fps,
        audio=painter.sound(sound, timeline),
        sample_rate=SAMPLE_RATE,
        events=timeline.events,
        curve=timeline.intensity(timeline.frame_times) if cls.continuous else None,
        picture=picture,
        parameters=asdict(painter) | {"strengths": timeline.strengths, "knots": timeline.knots},
    )
