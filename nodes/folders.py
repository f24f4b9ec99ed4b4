"""Where models lie. Names in a workflow are untrusted: only what is listed here is ever opened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import folder_paths

from ..jointdit.checkpoints.components import ADAPTER_FILES, IDENTITY, INDEX, Expert
from ..jointdit.checkpoints.index import BUNDLED, read_index
from ..jointdit.errors import InputError

PACK = Path(__file__).parents[1]  # where `-m jointdit` finds the library, which is not installed
KEY = "jointdit"
OWN_BLOCKS = "model's own"
NO_JOINT_FILE = "none (identity)"
NO_ADAPTERS = "none (experts unchanged)"
NO_LORA = "none"
Place = TypeVar("Place")

# A folder that tells the expert's layout from others; the name for `fetch-models`, and of the folder it makes.
PARTS: dict[Expert, str] = {"video": "image_encoder", "audio": "language_model"}
PUBLISHED: dict[Expert, tuple[str, str]] = {
    "video": ("svd-xt", "stable-video-diffusion-img2vid-xt"),
    "audio": ("audioldm2", "audioldm2"),
}
CHECKPOINTS, LORAS = "checkpoints", "loras"
SINGLE_FILES = "[sS][vV][dD]*.safetensors"
SAFETENSORS = "[!.]*.safetensors"  # . is half-written


def register() -> None:
    """Makes models/jointdit a model folder of ComfyUI, also for extra_model_paths.yaml."""
    folder_paths.add_model_folder_path(KEY, str(Path(folder_paths.models_dir) / KEY))


def models() -> dict[str, Path]:
    """Model folders by name: the bundled ones, then those in models/jointdit."""
    return {**BUNDLED, **{path.name: path for path in _subfolders(KEY) if _is_model(path)}}


def own_values() -> dict[str, dict[str, float]]:
    """Numbers that each of `models` takes where a widget asks for the model's own: those that its folder states."""
    return {name: _numbers(read_index(path).get("defaults")) for name, path in models().items()}


def experts(kind: Expert) -> dict[str, Path]:
    """Folders of this expert in diffusers' layout, in models/diffusers and models/jointdit.

    Of the video expert also its single files, models/checkpoints/svd*.safetensors.
    """
    found = [*_subfolders(KEY), *_subfolders("diffusers")]
    known = {path.name: path for path in found if (path / PARTS[kind]).is_dir() and (path / "unet").is_dir()}
    if kind == "video":
        for root in map(Path, folder_paths.get_folder_paths(CHECKPOINTS)):
            known |= {path.relative_to(root).as_posix(): path for path in sorted(root.rglob(SINGLE_FILES))}
    return known


def expert_names(kind: Expert) -> list[str]:
    """The choices of a widget; the published name where there is none yet."""
    return sorted(experts(kind)) or [PUBLISHED[kind][1]]


def joint_blocks(own: bool = False) -> dict[str, Path | str | None]:
    """What the library takes as `joint`, by name: the identity, and the Joint Block files in models/jointdit.

    own: also the blocks that a model brings, first.
    """
    roots = map(Path, folder_paths.get_folder_paths(KEY))
    files = {path.name: path for root in roots for path in sorted(root.glob(SAFETENSORS))}
    return {**({OWN_BLOCKS: None} if own else {}), NO_JOINT_FILE: IDENTITY, **files}


def adapters() -> dict[str, Path | None]:
    """What the library takes as `adapters`, by name: none, and the folders of low-rank adapters in models/jointdit."""
    return {NO_ADAPTERS: None, **{path.name: path for path in _subfolders(KEY) if _has_adapters(path)}}


def loras() -> dict[str, Path | None]:
    """LoRA files in models/loras by name, its subfolders' too, and none."""
    roots = map(Path, folder_paths.get_folder_paths(LORAS))
    files = {path.relative_to(root).as_posix(): path for root in roots for path in sorted(root.rglob(SAFETENSORS))}
    return {NO_LORA: None, **files}


def find_model(name: str) -> Path:
    """The folder of a model. Raises InputError with the folder it should be in."""
    return _find(name, models(), f"put the model folder (with its {INDEX}) into {_main_folder(KEY)}")


def find_expert(kind: Expert, name: str) -> Path:
    """An expert's folder or file. Raises InputError with the folder it should be in and the command that fetches it."""
    return _find(name, experts(kind), f"fetch it with: {fetching(kind, name.endswith('.safetensors'))}")


def fetching(kind: Expert, single_file: bool = False) -> str:
    """The command, for a shell, that fetches an expert to where it is found."""
    place = _main_folder(CHECKPOINTS if single_file else "diffusers")
    options = f'{PUBLISHED[kind][0]} {"--single-file " * single_file}--to "{place}"'
    return f'cd "{PACK}" && "{sys.executable}" -m jointdit fetch-models {options}'


def find_joint_blocks(name: str, own: bool = False) -> Path | str | None:
    """One of `joint_blocks`. Raises InputError with the folder where a file should be."""
    return _find(name, joint_blocks(own), f"put the file into {_main_folder(KEY)}")


def find_adapters(name: str) -> Path | None:
    """One of `adapters`. Raises InputError with the folder where they should be."""
    files = " or ".join(ADAPTER_FILES.values())
    return _find(name, adapters(), f"put the folder (with {files}) into {_main_folder(KEY)}")


def find_lora(name: str) -> Path | None:
    """One of `loras`. Raises InputError with the folder where the file should be."""
    return _find(name, loras(), f"put the file into {_main_folder(LORAS)}")


def all_found(*finds: Callable[[], Any]) -> tuple[Any, ...]:
    """What each of them finds. Raises one InputError with what all of them miss."""
    found, missing = [], []
    for find in finds:
        try:
            found.append(find())
        except InputError as error:
            missing.append(str(error))
    if missing:
        raise InputError("; and ".join(missing))
    return tuple(found)


def complaint(find: Callable[[str], object], name: str | None) -> bool | str:
    """For `validate_inputs`: True, or what is wrong with the name; None is known only when the node runs."""
    if name is None:
        return True
    try:
        find(name)
    except InputError as error:
        return str(error)
    return True


def fingerprint(place: Path | str | None) -> list[tuple[str, int]]:
    """Changes when a file in the folder, or the file itself, does. Of what is no path it is empty."""
    if not isinstance(place, Path):
        return []
    files = sorted(place.rglob("*.*")) if place.is_dir() else [place]
    return [(str(path), path.stat().st_mtime_ns) for path in files]


def _find(name: str, known: Mapping[str, Place], remedy: str) -> Place:
    if name not in known:
        raise InputError(f"{name!r} is not there (found: {', '.join(known) or 'none'}); {remedy}")
    return known[name]


def _main_folder(key: str) -> Path:
    return Path(folder_paths.get_folder_paths(key)[0])


def _subfolders(key: str) -> list[Path]:
    roots = [Path(root) for root in folder_paths.get_folder_paths(key)]
    return [path for root in roots if root.is_dir() for path in sorted(root.iterdir()) if path.is_dir()]


def _is_model(folder: Path) -> bool:
    if not (folder / INDEX).is_file():
        return False
    try:
        read_index(folder)
    except InputError:
        return False
    return True


def _numbers(stated: object) -> dict[str, float]:
    """The numbers among them. Frames a second are written as text, an exact fraction."""
    if not isinstance(stated, dict):
        return {}
    numbers = {name: value for name, value in stated.items() if type(value) in (int, float)}
    with suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
        numbers["fps"] = float(Fraction(stated["fps"]))
    return numbers


def _has_adapters(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ADAPTER_FILES.values())
