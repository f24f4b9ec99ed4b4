"""Where the two experts and the networks that measure are published, and which of the files there are needed."""

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


WEIGHTS, PROCESSORS = "model.safetensors", ("preprocessor_config.json", "processor_config.json")  # of a network


@dataclass(frozen=True)
class Published:
    """A model on the Hugging Face Hub.

    expert: which of the two it is; None for a network that measures, as `save_pretrained` of transformers writes it.
    licence: as the repository declares it; "" where only the hub is asked for it.
    single_file: the same model as one file, for ComfyUI's checkpoints.
    commit: the one to take, where the main branch has its weights as a pickle alone: the Hub's own conversion.
    """

    repository: str
    expert: Expert | None
    licence: str = ""
    single_file: str | None = None
    commit: str | None = None

    @property
    def name(self) -> str:
        return self.repository.rpartition("/")[2]


STABILITY, CC = "stable-video-diffusion-community", "cc-by-nc-sa-4.0"
EXPERTS = {
    "svd": Published("stabilityai/stable-video-diffusion-img2vid", "video", STABILITY, "svd.safetensors"),
    "svd-xt": Published("stabilityai/stable-video-diffusion-img2vid-xt", "video", STABILITY, "svd_xt.safetensors"),
    "audioldm2": Published("cvssp/audioldm2", "audio", CC),
    "audioldm2-large": Published("cvssp/audioldm2-large", "audio", CC),
    "audioldm2-music": Published("cvssp/audioldm2-music", "audio", CC),
}
# The commits are those of pull requests in which the Hub's converter adds safetensors, not merged by mid-2026.
NETWORKS = {
    "videomae": Published("MCG-NJU/videomae-base-finetuned-kinetics", None),
    "clip": Published("openai/clip-vit-base-patch32", None, commit="c237dc49a33fc61debc9276459120b7eac67e7ef"),
    "clip-large": Published("openai/clip-vit-large-patch14", None),
    "clap": Published("laion/clap-htsat-unfused", None, commit="79b58ed25fc00386262a2bea4b19fd21dc4310a0"),
    "clap-large": Published("laion/larger_clap_general", None, commit="16c8cc3159a3c8a31e8ff5ef1f66b0d9ab3667db"),
    "ast": Published("MIT/ast-finetuned-audioset-10-10-0.4593", None),
    "wav2vec2": Published("facebook/wav2vec2-base-960h", None),
}
MODELS = EXPERTS | NETWORKS


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
    if model.expert is None:
        return _of_network(model, {str(path) for path in paths if path.parent == PurePosixPath()})
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


def _of_network(model: Published, there: set[str]) -> list[str]:
    """Of the files beside each other, a network's: `config.json`, by which it is found, is the last."""
    if WEIGHTS not in there:
        pickles = sorted(name for name in there if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
        instead = f"{WEIGHTS}, only {', '.join(pickles[:3])}; no pickle is fetched" if pickles else WEIGHTS
        raise InputError(f"{model.repository}: does not have {instead}")
    for wanted in (PROCESSORS, ("config.json",)):
        if not there.intersection(wanted):
            raise InputError(f"{model.repository}: does not have {wanted[0]} any more")
    settings = sorted(name for name in there if SETTINGS.fullmatch(name) and name != "config.json")
    return [*settings, WEIGHTS, "config.json"]
