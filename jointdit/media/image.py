"""Still pictures: every usable kind becomes upright 8-bit RGB, every other one an error of one line."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from os import PathLike
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InputError
from .files import source_file

# Named, because Pillow would otherwise try formats that run other programs (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000")
MAX_PIXELS = 80_000_000  # 240 MB as RGB; below Pillow's own limit
# What Pillow raises for damaged files of one format or another; AVIF's is RuntimeError.
DAMAGES = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, LookupError, ArithmeticError, TypeError) + (
    AttributeError,
    struct.error,
    zlib.error,
)
BACKGROUND = (255, 255, 255)

Fit = Literal["cover", "contain", "stretch"]


def read_image(path: str | PathLike[str]) -> np.ndarray:
    """Read a picture: uint8 [H, W, 3], turned upright as its EXIF orientation says.

    Animations give their first frame; transparent pictures lie on white; 16-bit greys and floats (0 to 1) are scaled
    to 8 bits; CMYK is converted without a colour profile.

    Raises InputError for a file that is missing, broken, truncated, not a picture, or above 80 megapixels (known from
    its header, before any pixel is decoded).
    """
    source = source_file(path)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata and of sizes, which are limited here
            with Image.open(source, formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width * image.height} pixels")
                return _rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        megapixels = int(re.findall(r"\d+", str(error))[0]) // 1_000_000
        limit = MAX_PIXELS // 1_000_000
        raise InputError(f"{path}: {megapixels} megapixels, but at most {limit} are read; make it smaller") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a picture in a known format; name a PNG, JPEG or WebP file") from error
    except DAMAGES as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: the picture cannot be read ({reason}); save it again as PNG or JPEG") from error


def fit_image(picture: np.ndarray, height: int, width: int, mode: Fit = "cover") -> np.ndarray:
    """Bring `picture` (uint8 [H, W, 3]) to uint8 [height, width, 3], antialiased (Lanczos).

    mode: "cover" fills the size and cuts off what is too much, equally on both sides; "contain" shows the whole
    picture between bars of the mean colour of its edges; "stretch" changes the proportions.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(f"picture is {picture.dtype} {list(picture.shape)}, but must be uint8 [H, W, 3]")
    if height < 1 or width < 1:
        raise InputError(f"size is {width}x{height}, but both sides must be at least 1")
    if mode not in get_args(Fit):
        raise InputError(f"fit mode is {mode!r}, but must be one of {', '.join(get_args(Fit))}")
    image = Image.fromarray(np.ascontiguousarray(picture))
    if mode == "cover":
        fitted = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    elif mode == "contain":
        rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        colour = tuple(round(level) for level in rim.mean(axis=0))
        scale = min(width / image.width, height / image.height)
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        fitted = Image.new("RGB", (width, height), colour)
        place = (width - inner[0]) // 2, (height - inner[1]) // 2
        fitted.paste(image.resize(inner, Image.Resampling.LANCZOS), place)
    else:
        fitted = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.array(fitted)


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError(f"whole numbers from {levels.min()} to {levels.max()} instead of 0 to 65535")
        return _grey(levels / 257)
    if image.mode == "F":
        levels = np.asarray(image)
        if not (levels.min() >= 0 and levels.max() <= 1):
            raise ValueError(f"floats from {levels.min()} to {levels.max()} instead of 0 to 1")
        return _grey(levels * 255)
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), picture)
    return np.array(image.convert("RGB"))


def _grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(levels).astype(np.uint8)[..., None], 3, axis=2)
