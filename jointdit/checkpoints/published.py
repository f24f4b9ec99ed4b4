"""Where the two experts are published, and which of the files there are needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import InputError
from .components import INDEX, Expert, published_folders

SETTINGS = re.compile(r"[\w-]+\.(json|txt|model)")  # configurations and tokenizers; no index of sharded weights
# AudioLDM2's index names this folder besides: diffusers' own pipeline could not load the model without it.
UNREAD: dict[Expert, tuple[str, ...]] = {"video": (), "audio": ("feature_extractor",)}


@dataclass(frozen=True)
class Published:
    """A model on the Hugging Face Hub.

    licence: as the repository declares it.
    single_file: the same model as one file, for ComfyUI's checkpoints.
    """

    repository: str
    expert: Expert
    licence: str
    single_file: str | None = None

    @property
    def name(self) -> str:
        return self.repository.rpartition("/")[2]


STABILITY, CC = "stable-video-diffusion-community", "cc-by-nc-sa-4.0"
MODELS = {
    "svd": Published("stabilityai/stable-video-diffusion-img2vid", "video", STABILITY, "svd.safetensors"),
    "svd-xt": Published("stabilityai/stable-video-diffusion-img2vid-xt", "video", STABILITY, "svd_xt.safetensors"),
    "audioldm2": Published("cvssp/audioldm2", "audio", CC),
    "audioldm2-large": Published("cvssp/audioldm2-large", "audio", CC),
    "audioldm2-music": Published("cvssp/audioldm2-music", "audio", CC),
}


def needed_files(
    model: Published, listing: Iterable[str], half: bool = True, single_file: str | None = None
) -> list[str]:
    """Of all paths in the repository, those that loading the model takes; the index of its folders is the last.

    One file of weights per component, in half precision if `half` and if it is published, and never a pickle.
    single_file: the checkpoint in one file, instead of the folders.
    Raises InputError for what is not there.
    """
    paths = {PurePosixPath(path) for path in listing}

    def first_of(*choices: PurePosixPath) -> PurePosixPath:
        for path in choices:
            if path in paths:
                return path
        raise InputError(f"{model.repository}: does not have {choices[-1]} any more")

    if single_file:
        return [str(first_of(PurePosixPath(single_file)))]
    weights: dict[str, str | None] = {name: each.weights for name, each in published_folders(model.expert).items()}
    weights |= dict.fromkeys(UNREAD[model.expert])
    needed = []
    for name in sorted(weights):
        folder, stem = PurePosixPath(name), weights[name]
        settings = sorted(path for path in paths if path.parent == folder and SETTINGS.fullmatch(path.name))
        needed += settings or [first_of(folder / "config.json")]
        if stem:
            full = folder / f"{stem}.safetensors"
            needed.append(first_of(full.with_suffix(".fp16.safetensors"), full) if half else first_of(full))
    return [str(path) for path in (*needed, first_of(PurePosixPath(INDEX)))]
