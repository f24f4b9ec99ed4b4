"""A folder of scenes: a sounding mp4 and a JSON of its ground truth each."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from ..errors import InputError
from ..media import Clip
from ..media.files import write_json
from .scenes import Scene, render_scene
from .textures import PictureSource

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def synthesize(
    directory: Path,
    clips: int,
    seed: int,
    *,
    frames: int = 20,
    fps: Fraction = Fraction(25, 2),
    size: tuple[int, int] = (128, 128),
    effect: str | None = None,
    photos: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write 000000.mp4, 000000.json, ... of scenes `seed`, `seed + 1`, ...; each file appears whole or not at all.

    size: width and height in pixels.
    effect: of every scene; a random one for each where None.
    photos: a folder of photos to crop pictures from, instead of procedural ones.
    progress: called with the number of finished clips.
    Raises InputError for an argument or a path that cannot be used.
    """
    if clips < 1:
        raise InputError(f"clips={clips}: give 1 or more")
    width, height = size
    pictures = None
    if photos is not None:
        files = sorted(path for path in Path(photos).glob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
        if not files:
            raise InputError(f"photos={photos}: no picture there; give a folder with {', '.join(PHOTO_SUFFIXES)} files")
        pictures = PictureSource.from_files(files, procedural=0.0)
    for index in range(clips):
        scene = render_scene(
            seed + index, frames=frames, fps=fps, height=height, width=width, effect=effect, pictures=pictures
        )
        directory.mkdir(parents=True, exist_ok=True)  # only now: what cannot be rendered leaves nothing behind
        Clip(scene.frames, scene.fps, scene.audio[None], scene.sample_rate).save(directory / f"{index:06d}.mp4")
        write_json(directory / f"{index:06d}.json", truth(scene, seed + index))
        if progress is not None:
            progress(index + 1)


def truth(scene: Scene, seed: int) -> dict[str, object]:
    """What a scene's JSON file says."""
    return {
        "effect": scene.effect,
        "caption": scene.caption,
        "events": scene.events,
        "curve": None if scene.curve is None else [round(float(v), 4) for v in scene.curve],
        "fps": str(scene.fps),
        "sample_rate": scene.sample_rate,
        "seed": seed,
        "parameters": scene.parameters,
    }
