"""Prompts: encoded, and whether a model was made for what they ask for.

The functions that take a `pipe` are methods of `JointDiTPipeline`, which is that `pipe`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from transformers import CLIPTextModel

from ..checkpoints.components import TEXT_ENCODERS
from ..encoders.conditioning import TextEmbeddings, encode_audioldm2_text, encode_clip_text
from .components import JointDiTComponents

logger = logging.getLogger(__name__)


@torch.no_grad()
def encode_texts(
    pipe: JointDiTComponents, prompts: Sequence[str | None], negative_prompts: Sequence[str | None]
) -> tuple[TextEmbeddings, TextEmbeddings]:
    """B prompts and B negative prompts; an empty or blank text is none."""
    texts, negative_texts = ([_unless_blank(text) for text in each] for each in (prompts, negative_prompts))
    with pipe.using(*TEXT_ENCODERS):
        return encode_text(pipe, texts), encode_text(pipe, negative_texts, beside=texts)


def encode_text(pipe: JointDiTComponents, texts: Sequence[str], beside: Sequence[str] | None = None) -> TextEmbeddings:
    """Texts through this model's own encoders, each distinct one once.

    beside: the texts that these are the negatives of, as `encode_audioldm2_text` has it.
    """
    if isinstance(pipe.text_encoder, CLIPTextModel):
        distinct = list(dict.fromkeys(texts))
        encoded = encode_clip_text(pipe.tokenizer, pipe.text_encoder, distinct)
        return encoded.select([distinct.index(text) for text in texts])
    names = (*TEXT_ENCODERS, "tokenizer", "tokenizer_2", "vocoder")
    parts: dict[str, Any] = {name: getattr(pipe, name) for name in names}
    parts |= {"vae": pipe.audio_vae, "unet": pipe.audio_unet, "scheduler": pipe.audio_scheduler}
    parts["feature_extractor"] = None
    encoders = diffusers.AudioLDM2Pipeline(**parts)  # imported here: `tiny` has no need of it
    pairs = list(zip(texts, beside or [""] * len(texts), strict=True))
    once = {pair: encode_audioldm2_text(encoders, *pair) for pair in dict.fromkeys(pairs)}
    return TextEmbeddings.cat([once[pair] for pair in pairs])


@dataclass(frozen=True)
class Recognised:
    """What a model makes of a prompt.

    known: whether the text says something to it; it takes another one for no prompt.
    nearest: of what it was made for; None where the model does not list it, as those that were made for anything.
    """

    prompt: str
    known: bool
    nearest: str | None

    def told(self, subjects: Mapping[str, str]) -> str:
        """One line for who asked for what the model does not know. subjects: all that it knows."""
        return (
            f"the model does not know {self.prompt!r} and lets the picture decide, as without a prompt; it knows "
            f"{', '.join(subjects)}; nearest is {self.nearest}: {subjects[self.nearest or '']!r}"
        )


@torch.no_grad()
def recognise(pipe: JointDiTComponents, prompts: Sequence[str | None]) -> list[Recognised]:
    """Each prompt; no prompt is known. A model with `Defaults.subjects` encodes texts about nothing that it knows as it
    encodes none; the nearest is found by the states at the texts' ends."""
    texts, subjects = [_unless_blank(prompt) for prompt in prompts], pipe.defaults.subjects
    if not subjects:
        return [Recognised(text, True, None) for text in texts]
    with pipe.using("text_encoder"):
        ends = encode_text(pipe, ["", *subjects.values(), *texts]).context[:, -1].float()
    known, asked = ends[: 1 + len(subjects)], ends[1 + len(subjects) :]
    distances, names = torch.cdist(asked, known), list(subjects)
    return [
        Recognised(text, not text or bool(row.argmin() > 0), names[int(row[1:].argmin())])
        for text, row in zip(texts, distances, strict=True)
    ]


def heard(pipe: JointDiTComponents, prompts: Sequence[str | None]) -> list[str]:
    """The prompts that the model knows; in place of the others none, with a warning for each."""
    found = recognise(pipe, prompts)
    for line in dict.fromkeys(each.told(pipe.defaults.subjects) for each in found if not each.known):
        logger.warning(line)
    return [each.prompt if each.known else "" for each in found]


def _unless_blank(text: str | None) -> str:
    return text if text and text.strip() else ""
