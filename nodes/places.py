"""Where training reads and writes. Names in a workflow are untrusted: nothing outside ComfyUI's folders is touched."""

from __future__ import annotations

import logging
import re
import shutil
from itertools import chain
from pathlib import Path

import folder_paths

from ..jointdit.errors import InputError
from ..jointdit.media import VIDEO_SUFFIXES
from ..jointdit.media.files import whole_file
from ..jointdit.train.names import STATE
from .folders import KEY

logger = logging.getLogger(__name__)
EXAMPLES = Path(__file__).parents[1] / "workflows" / "media"  # the templates of a video and of a sound open with these
DEEPEST = 4  # folders down to the videos of a published set: SET/videos/train/rain/1.mp4
NO_VIDEOS = "videos"  # shown where there are none
NAME = re.compile(r"\w[\w-]{0,63}", re.ASCII)
RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.ASCII | re.IGNORECASE)  # devices on Windows, with any ending


def video_folders() -> dict[str, Path]:
    """Folders in ComfyUI's input folder that hold videos, by name."""
    root = Path(folder_paths.get_input_directory())
    return {path.name: path for path in sorted(root.glob("*/")) if _has_videos(path)}


def find_videos(name: str) -> Path:
    """A folder of videos. Raises InputError with the place where it should be."""
    known = video_folders()
    if name not in known:
        place = Path(folder_paths.get_input_directory()) / "NAME" / "CAPTION"
        raise InputError(
            f"there is no folder {name!r} with videos (found: {', '.join(known) or 'none'}); put videos into {place}, "
            "a folder for each caption"
        )
    return known[name]


def give_examples() -> None:
    """Copies what the templates open with into ComfyUI's input folder, where it is not there yet."""
    folder = Path(folder_paths.get_input_directory())
    for example in sorted(EXAMPLES.iterdir()):
        if folder.is_dir() and not (folder / example.name).exists():
            try:
                with whole_file(folder / example.name) as partial:
                    shutil.copyfile(example, partial)
            except (OSError, InputError) as error:
                logger.warning("JointDiT: %s is not copied to %s: %s", example.name, folder, error)


def cache_folder(name: str) -> Path:
    """Where a latent cache lies."""
    return _output("caches", name)


def state_folder(name: str) -> Path:
    """Where the state and the log of a training lie."""
    return _output("training", name)


def joint_file(name: str) -> Path:
    """Where the Joint Block file of a training goes."""
    return Path(folder_paths.get_folder_paths(KEY)[0]) / f"{_checked(name)}.safetensors"


def free_file(name: str) -> Path:
    """The Joint Block file to be. Raises InputError where it would replace one that this training did not write."""
    file = joint_file(name)
    if file.exists() and not (state_folder(name) / STATE).exists():
        raise InputError(f"{file} is there, and not from a training that could go on; take another name")
    return file


def free_folder(name: str) -> Path:
    """The folder of a stage B to be, of adapters or of a whole model. Raises InputError where it would replace one that
    this training did not write."""
    folder = joint_file(name).with_suffix("")
    if folder.exists() and not (state_folder(name) / STATE).exists():
        raise InputError(f"{folder} is there, and not from a training that could go on; take another name")
    return folder


def _has_videos(folder: Path) -> bool:
    levels = (folder.glob("/".join("*" * depth)) for depth in range(1, DEEPEST + 1))
    return any(path.suffix.lower() in VIDEO_SUFFIXES for path in chain.from_iterable(levels))


def _output(kind: str, name: str) -> Path:
    return Path(folder_paths.get_output_directory()) / "jointdit" / kind / _checked(name)


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise InputError(f"name is {name!r}, but may have letters, digits, _ and - alone, 64 at most")
    if RESERVED.fullmatch(name):
        raise InputError(f"name is {name!r}, which Windows keeps for a device; take another name")
    return name
