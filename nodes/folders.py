"""Where models lie. Names in a workflow are untrusted: only what is listed here is ever opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folder_paths

from ..jointdit.checkpoints.components import INDEX, Expert
from ..jointdit.checkpoints.folders import BUNDLED, read_index
from ..jointdit.errors import InputError

KEY = "jointdit"
NO_JOINT_FILE = "none (identity)"

# A folder that tells the expert's layout from others; the name for `jointdit fetch-models`, and of the folder it makes.
PARTS: dict[Expert, str] = {"video": "image_encoder", "audio": "language_model"}
PUBLISHED: dict[Expert, tuple[str, str]] = {
    "video": ("svd-xt", "stable-video-diffusion-img2vid-xt"),
    "audio": ("audioldm2", "audioldm2"),
}
CHECKPOINTS = "checkpoints"
SINGLE_FILES = "[sS][vV][dD]*.safetensors"


def register() -> None:
    """Makes models/jointdit a model folder of ComfyUI, also for extra_model_paths.yaml."""
    folder_paths.add_model_folder_path(KEY, str(Path(folder_paths.models_dir) / KEY))


def models() -> dict[str, Path]:
    """Model folders by name: the bundled ones, then those in models/jointdit."""
    return {**BUNDLED, **{path.name: path for path in _subfolders(KEY) if _is_model(path)}}


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


def joint_files() -> dict[str, Path]:
    """Joint Block files in models/jointdit."""
    roots = map(Path, folder_paths.get_folder_paths(KEY))
    return {path.name: path for root in roots for path in sorted(root.glob("[!.]*.safetensors"))}  # . is half-written


def find_model(name: str) -> Path:
    """The folder of a model. Raises InputError with the folder it should be in."""
    return _find(name, models(), f"put the model folder (with its {INDEX}) into {_main_folder(KEY)}")


def find_expert(kind: Expert, name: str) -> Path:
    """An expert's folder or file. Raises InputError with the folder it should be in and the command that fetches it."""
    return _find(name, experts(kind), f"fetch it with: {fetching(kind, name.endswith('.safetensors'))}")


def fetching(kind: Expert, single_file: bool = False) -> str:
    """The command that fetches an expert to where it is found."""
    place = _main_folder(CHECKPOINTS if single_file else "diffusers")
    return f'jointdit fetch-models {PUBLISHED[kind][0]} {"--single-file " * single_file}--to "{place}"'


def find_joint_file(name: str) -> Path | None:
    """A Joint Block file, or None for the identity."""
    if name == NO_JOINT_FILE:
        return None
    return _find(name, joint_files(), f"put the file into {_main_folder(KEY)}")


def complaint(find: Callable[[str], object], name: str | None) -> bool | str:
    """For `validate_inputs`: True, or what is wrong with the name; None is known only when the node runs."""
    if name is None:
        return True
    try:
        find(name)
    except InputError as error:
        return str(error)
    return True


def fingerprint(folder: Path | None) -> list[tuple[str, int]]:
    """Changes when a file in the folder, or the file itself, does."""
    if folder is None:
        return []
    files = sorted(folder.rglob("*.*")) if folder.is_dir() else [folder]
    return [(str(path), path.stat().st_mtime_ns) for path in files]


def _find(name: str, known: dict[str, Path], remedy: str) -> Path:
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
