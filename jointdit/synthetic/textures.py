"""Still pictures for scenes: an endless supply of procedural ones, and crops of photos."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from PIL import Image

from ..errors import InputError
from .arrays import Array, Picture
from .drawing import hsv

# Photographs that the wheels carry themselves, openly licensed (public domain, CC0, CC BY or no known restrictions).
BUNDLED = {
    "skimage": (
        "data",
        ("brick.png", "camera.png", "cell.png", "clock_motion.png", "coins.png", "grass.png", "gravel.png")
        + ("hubble_deep_field.jpg", "ihc.png", "retina.jpg"),
    ),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
}


def bundled_photos() -> list[Path]:
    """Openly licensed photographs shipped inside scikit-image and scikit-learn.

    Raises ImportError, naming the extra that brings it, where one of the two packages is missing.
    """
    photos = []
    for package, (folder, names) in BUNDLED.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
            raise ImportError(
                f'{package}, whose photographs are used, is missing; get it with: "{sys.executable}" -m pip install '
                f"{distribution}"
            )
        photos += [Path(spec.origin).parent / folder / name for name in names]
    return photos


def read_picture(path: Path) -> Picture:
    """An image file as uint8 [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def cover(picture: Picture, height: int, width: int) -> Picture:
    """The picture scaled to cover height x width and cropped at its centre."""
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(picture.shape[0] / height, picture.shape[1] / width)
    return _cut(picture, (scale * height, scale * width), (0.5, 0.5), height, width)


def _cut(picture: Picture, size: tuple[float, float], place: tuple[float, float], height: int, width: int) -> Picture:
    """A box of `size` pixels at a relative `place` (0 is top or left, 1 is bottom or right), resized."""
    top, left = (p * (full - s) for p, full, s in zip(place, picture.shape[:2], size, strict=True))
    box = (left, top, left + size[1], top + size[0])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC, box=box))


class PictureSource:
    """Draws pictures of any size: procedural ones, and random crops of given photos.

    photos: uint8 [H, W, 3] pictures to crop; none means that every picture is procedural.
    procedural: share of procedural pictures, in [0, 1], where there are photos.
    """

    def __init__(self, photos: Sequence[Picture] = (), procedural: float = 0.4) -> None:
        if not 0 <= procedural <= 1:
            raise InputError(f"procedural={procedural} is not a share; give a number from 0 to 1")
        for photo in photos:
            check_picture(photo)
        self.photos = tuple(photos)
        self.procedural = procedural if photos else 1.0

    @classmethod
    def from_files(cls, paths: Sequence[Path], procedural: float = 0.4) -> PictureSource:
        return cls([read_picture(path) for path in paths], procedural)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Picture:
        """One picture, uint8 [height, width, 3]."""
        if rng.random() < self.procedural:
            return procedural_picture(rng, height, width)
        photo = self.photos[rng.integers(len(self.photos))]
        largest = min(photo.shape[0] / height, photo.shape[1] / width)
        scale = largest * rng.uniform(0.35, 1.0)
        crop = _cut(photo, (scale * height, scale * width), tuple(rng.random(2)), height, width)
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        return _to_bytes(_jitter(rng, crop / np.float32(255)))


def check_picture(picture: Picture) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise InputError(f"picture is {picture.dtype} {list(picture.shape)}; give uint8 [height, width, 3]")


def procedural_picture(rng: np.random.Generator, height: int, width: int) -> Picture:
    """A random picture without any source, uint8 [height, width, 3]: sceneries, patterns, shapes and their mixtures."""
    recipes = (_scenery, _scenery, _mixture, _mixture, _clouds, _cells, _stripes, _blobs, _gradient)
    picture = recipes[rng.integers(len(recipes))](rng, height, width)
    if rng.random() < 0.6:
        _scatter_shapes(rng, picture)
    if rng.random() < 0.3:
        shade = 1 + rng.uniform(0.2, 0.6) * fractal_noise(rng, height, width, 2.5)
        picture = picture * shade[..., None]
    if rng.random() < 0.25:
        picture = picture + rng.uniform(0.01, 0.05) * rng.standard_normal((height, width, 1), np.float32)
    return _to_bytes(_jitter(rng, picture))


def _to_bytes(picture: Array) -> Picture:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _jitter(rng: np.random.Generator, picture: Array) -> Array:
    """Random brightness, contrast, saturation and tint."""
    mean, grey = picture.mean(), picture.mean(2, keepdims=True)
    picture = grey + (picture - grey) * np.float32(rng.uniform(0.6, 1.4))
    picture = mean + (picture - mean) * np.float32(rng.uniform(0.75, 1.25))
    return picture * rng.uniform(0.88, 1.12, 3).astype(np.float32) + np.float32(rng.uniform(-0.08, 0.08))


def _grid(height: int, width: int) -> tuple[Array, Array]:
    """Coordinates [H, 1] and [1, W] in units of the shorter side, zero in the middle."""
    unit = min(height, width)
    rows = (np.arange(height, dtype=np.float32) - height / 2) / unit
    columns = (np.arange(width, dtype=np.float32) - width / 2) / unit
    return rows[:, None], columns[None, :]


def fractal_noise(rng: np.random.Generator, height: int, width: int, slope: float) -> Array:
    """Fractal noise [H, W] with a power spectrum that falls as frequency^-slope, zero mean, most values in [-1, 1]."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * frequency ** (-slope / 2)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (height, width)).astype(np.float32)
    return field / (2 * field.std() + 1e-9)


def _palette(rng: np.random.Generator, count: SupportsIndex) -> Array:
    """Colours [count, 3] around one or two hues, from dark to light in random order."""
    hue, spread = rng.random(), rng.choice([0.04, 0.12, 0.5])
    values = rng.permutation(np.linspace(rng.uniform(0.05, 0.35), rng.uniform(0.65, 1.0), count))
    tone = rng.uniform(0.15, 0.9)
    hues, tones = rng.normal(hue, spread, count), rng.normal(tone, 0.2, count).clip(0, 1)
    return np.array([hsv(*colour) for colour in zip(hues, tones, values, strict=True)], np.float32)


def _colour(field: Array, palette: Array) -> Array:
    """A field in [0, 1] looked up in a smooth palette: [H, W, 3]."""
    place = np.clip(field, 0, 1) * (len(palette) - 1)
    left = np.minimum(place.astype(int), len(palette) - 2)
    mix = (place - left)[..., None]
    return palette[left] * (1 - mix) + palette[left + 1] * mix


def _gradient(rng: np.random.Generator, height: int, width: int) -> Array:
    rows, columns = _grid(height, width)
    if rng.random() < 0.4:
        field = np.hypot(rows - rng.uniform(-0.5, 0.5), columns - rng.uniform(-0.5, 0.5))
    else:
        angle = rng.uniform(0, 2 * np.pi)
        field = 0.5 + 0.7 * (np.sin(angle) * rows + np.cos(angle) * columns)
    return _colour(field, _palette(rng, rng.integers(2, 5)))


def _clouds(rng: np.random.Generator, height: int, width: int) -> Array:
    field = fractal_noise(rng, height, width, rng.uniform(2.0, 3.6))
    if rng.random() < 0.3:
        field = np.abs(field) * 2 - 0.6
    return _colour(0.5 + 0.5 * field, _palette(rng, rng.integers(2, 6)))


def _stripes(rng: np.random.Generator, height: int, width: int) -> Array:
    rows, columns = _grid(height, width)
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    along = np.sin(angle) * rows + np.cos(angle) * columns
    across = np.cos(angle) * rows - np.sin(angle) * columns
    bend = rng.uniform(0, 0.15) * fractal_noise(rng, height, width, 3.5)
    waves = np.sin(2 * np.pi * (rng.uniform(1.5, 9) * (along + bend) + rng.random()))
    if rng.random() < 0.4:
        waves = waves * np.sin(2 * np.pi * (rng.uniform(1.5, 9) * (across + bend) + rng.random()))
    return _colour(0.5 + 0.5 * np.tanh(rng.uniform(0.8, 6) * waves), _palette(rng, rng.integers(2, 4)))


def _cells(rng: np.random.Generator, height: int, width: int) -> Array:
    """A Voronoi mosaic with shaded cells."""
    rows, columns = _grid(height, width)
    unit = min(height, width)
    points = rng.uniform(-0.6, 0.6, (rng.integers(8, 50), 2)) * (height / unit, width / unit)
    nearest = np.full((height, width), np.inf, np.float32)
    owner = np.zeros((height, width), int)
    for index, (y, x) in enumerate(points.astype(np.float32)):
        distance = (rows - y) ** 2 + (columns - x) ** 2
        closer = distance < nearest
        nearest[closer], owner[closer] = distance[closer], index
    colours = _palette(rng, len(points))[owner]
    return colours * (1 - rng.uniform(0, 1.5) * np.sqrt(nearest))[..., None]


def _blobs(rng: np.random.Generator, height: int, width: int) -> Array:
    """Blurred lights on a gradient, as in a photo out of focus."""
    picture = _gradient(rng, height, width)
    rows, columns = _grid(height, width)
    for colour in _palette(rng, rng.integers(4, 16)):
        y, x = rng.uniform(-0.6, 0.6, 2) * (height / min(height, width), width / min(height, width))
        distance = np.hypot(rows - y, columns - x) / rng.uniform(0.04, 0.3)
        alpha = rng.uniform(0.4, 0.9) / (1 + distance ** rng.choice([2, 4, 8]))
        picture = picture + (colour - picture) * alpha[..., None]
    return picture


def _scenery(rng: np.random.Generator, height: int, width: int) -> Array:
    """A sky, perhaps with a sun and clouds, over ridges or water, darker or hazier with distance."""
    rows, columns = _grid(height, width)
    horizon = rng.uniform(-0.15, 0.25)
    sky = _palette(rng, 2)
    picture = _colour((rows + 0.5) / (horizon + 0.5) + 0 * columns, sky[np.argsort(sky.sum(1))])
    cloud = np.clip(fractal_noise(rng, height, width, 2.8) - rng.uniform(0.0, 0.6), 0, 1)
    picture = picture + (rng.uniform(0.7, 1.0) - picture) * cloud[..., None]
    if rng.random() < 0.5:
        y, x = rng.uniform(-0.4, horizon), rng.uniform(-0.4, 0.4)
        sun = np.clip(1 - (np.hypot(rows - y, columns - x) - rng.uniform(0.03, 0.1)) / 0.03, 0, 1)
        picture = picture + (np.array([1, 0.9, 0.6], np.float32) - picture) * sun[..., None]
    layers = int(rng.integers(1, 5))
    for layer, colour in enumerate(_palette(rng, layers + 1)[:layers]):
        low = horizon + 0.5 * layer / layers + rng.uniform(-0.05, 0.05)
        profile = low + rng.uniform(0.01, 0.12) * fractal_noise(rng, 8, width, rng.uniform(2.2, 3.4))[:1]
        ground = 1 + rng.uniform(0.1, 0.5) * fractal_noise(rng, height, width, rng.uniform(1.2, 2.6))
        alpha = np.clip((rows - profile) * min(height, width), 0, 1)[..., None]
        picture = picture * (1 - alpha) + np.clip(colour * ground[..., None], 0, 1) * alpha
    return picture


def _mixture(rng: np.random.Generator, height: int, width: int) -> Array:
    """Two pictures joined by a noisy mask, hard or soft."""
    recipes: tuple[Callable[[np.random.Generator, int, int], Array], ...]
    recipes = (_clouds, _cells, _stripes, _blobs, _gradient, _scenery)
    one, two = rng.choice(len(recipes), 2, replace=False)
    mask = np.clip(0.5 + rng.choice([0.5, 2, 12]) * fractal_noise(rng, height, width, 3.2), 0, 1)[..., None]
    return recipes[one](rng, height, width) * mask + recipes[two](rng, height, width) * (1 - mask)


def _scatter_shapes(rng: np.random.Generator, picture: Array) -> None:
    """Put ellipses, boxes and half planes with shaded fill on the picture, in place."""
    height, width = picture.shape[:2]
    rows, columns = _grid(height, width)
    for colour in _palette(rng, rng.integers(2, 8)):
        angle, size, aspect = rng.uniform(0, np.pi), rng.uniform(0.04, 0.28), rng.uniform(0.4, 1.0)
        y, x = rows - rng.uniform(-0.5, 0.5), columns - rng.uniform(-0.5, 0.5)
        u, v = np.cos(angle) * y + np.sin(angle) * x, (np.cos(angle) * x - np.sin(angle) * y) / aspect
        distance = np.maximum(np.abs(u), np.abs(v)) if rng.random() < 0.4 else np.hypot(u, v)
        alpha = np.clip((size - distance) * min(height, width), 0, 1)[..., None] * np.float32(rng.uniform(0.5, 1))
        shade = 1 + np.float32(rng.uniform(-0.6, 0.6)) * (u / size)[..., None]
        picture += (colour * shade - picture) * alpha
