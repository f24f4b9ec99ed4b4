"""Where the two experts are published, and which of the files there are needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import InputError

INDEX = "model_index.json"
SETTINGS = re.compile(r"[\w-]+\.(json|txt|model)")  # configurations and tokenizers; no index of sharded weights
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"

VIDEO = {
    "feature_extractor": None,
    "image_encoder": TRANSFORMERS,
    "scheduler": None,
    "unet": DIFFUSERS,
    "vae": DIFFUSERS,
}
AUDIO = {
    "feature_extractor": None,
    "language_model": TRANSFORMERS,
    "projection_model": DIFFUSERS,
    "scheduler": None,
    "text_encoder": TRANSFORMERS,
    "text_encoder_2": TRANSFORMERS,
    "tokenizer": None,
    "tokenizer_2": None,
    "unet": DIFFUSERS,
    "vae": DIFFUSERS,
    "vocoder": TRANSFORMERS,
}


@dataclass(frozen=True)
class Published:
    """A model on the Hugging Face Hub.

    components: the folders of diffusers' layout, each with its weights' file name without endings, or None.
    licence: as the repository declares it.    single_file: the same model as one file, for ComfyUI's checkpoints.
    """

    repository: str
    components: Mapping[str, str | None]
    licence: str
    single_file: str | None = None

    @property
    def name(self) -> str:
        return self.repository.rpartition("/")[2]


STABILITY, CC = "stable-video-diffusion-community", "cc-by-nc-sa-4.0"
MODELS = {
    "svd": Published("stabilityai/stable-video-diffusion-img2vid", VIDEO, STABILITY, "svd.safetensors"),
    "svd-xt": Published("stabilityai/stable-video-diffusion-img2vid-xt", VIDEO, STABILITY, "svd_xt.safetensors"),
    "audioldm2": Published("cvssp/audioldm2", AUDIO, CC),
    "audioldm2-large": Published("cvssp/audioldm2-large", AUDIO, CC),
    "audioldm2-music": Published("cvssp/audioldm2-music", AUDIO, CC),
}


def needed_files(model: Published, listing: Iterable[str], half: bool = True, single_file: bool = False) -> list[str]:
    """Of all paths in the repository, those that loading the model takes; the index of its folders is the last.

    One file of weights per component, in half precision if `half` and if it is published, and never a pickle.
    Raises InputError for what is not there.
    """
    paths = {PurePosixPath(path) for path in listing}

    def first_of(*choices: PurePosixPath) -> PurePosixPath:
        for path in choices:
            if path in paths:
                return path
        raise InputError(f"{model.repository}: does not have {choices[-1]} any more")

    if single_file:
        return [str(first_of(PurePosixPath(model.single_file)))]
    needed = []
    for component, weights in model.components.items():
        folder = PurePosixPath(component)
        settings = sorted(path for path in paths if path.parent == folder and SETTINGS.fullmatch(path.name))
        needed += settings or [first_of(folder / "config.json")]
        if weights:
            full = folder / f"{weights}.safetensors"
            needed.append(first_of(full.with_suffix(".fp16.safetensors"), full) if half else first_of(full))
    return [str(path) for path in (*needed, first_of(PurePosixPath(INDEX)))]
