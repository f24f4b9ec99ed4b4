"""The command `words`: the text encoder, trained on captions of few words, learns other words that are near an effect.

A new copy of the encoder learns to encode captions as the old one does, prompts that a teacher finds near an effect as
the old one encodes a caption of it, and prompts that are near none as no prompt at all. Nothing else is trained: to the
experts, the new words look like the old ones.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...encoders.conditioning import encode_clip_text
from ...synthetic import EFFECTS
from ...synthetic.captions import draw_caption
from ...synthetic.effects import REGISTRY
from .experts import load
from .lexicon import NAMES, Lexicon
from .prompts import Prompts
from .recipe import TinyRecipe, WordStage
from .sentences import NOTHING, SentenceTeacher
from .tokenizer import extend_tokenizer
from .training_loop import fit
from .wordnet import WordNet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledPrompts:
    """texts, and the number of the effect of each, or NOTHING."""

    texts: Sequence[str]
    labels: NDArray[np.int64]

    def __getitem__(self, rows: slice) -> LabelledPrompts:
        return LabelledPrompts(self.texts[rows], self.labels[rows])


def train_words(recipe: TinyRecipe) -> None:
    """In the runs, `words/text_encoder` and `words/tokenizer`, with the state of the training beside them."""
    settings = recipe.words
    teacher = SentenceTeacher(settings.sentences, *draw_captions(settings.captions // 6, settings.caption_seed))
    lexicon = Lexicon.judged(WordNet.load(settings.wordnet), teacher, settings)
    logger.info("words of each effect: %s", {effect: len(words) for effect, words in lexicon.words.items()})
    prompts = label_prompts(lexicon, teacher, settings)
    logger.info("prompts of each effect: %s", dict(zip(NAMES, np.bincount(prompts.labels).tolist(), strict=True)))
    model, tokenizer = load(recipe)
    learn_words(model.text_encoder, tokenizer, lexicon, prompts, settings, recipe.runs / "words")


def label_prompts(lexicon: Lexicon, teacher: SentenceTeacher, settings: WordStage) -> LabelledPrompts:
    """Prompts of many kinds in random order, with what the teacher hears in them as a whole."""
    rng, source = np.random.default_rng(settings.seed), Prompts(lexicon, settings.near_shares, settings.from_glosses)
    asked = rng.integers(2 * NOTHING, size=settings.prompts)  # half of them of words that are near no effect
    texts = list(dict.fromkeys(source.draw(rng, NAMES[min(each, NOTHING)]) for each in asked))
    return LabelledPrompts(texts, teacher.labels(texts))


def learn_words(
    teacher: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    lexicon: Lexicon,
    prompts: LabelledPrompts,
    settings: WordStage,
    folder: Path,
) -> CLIPTextModel:
    """Trains a copy of `teacher`, and saves it in folder/text_encoder and its tokenizer, with more tokens, in
    folder/tokenizer. Goes on from `folder` if there is a state."""
    captions, _ = draw_captions(settings.captions, settings.caption_seed)
    tokenizer = extend_tokenizer(tokenizer, lexicon.forms(), captions, settings.more_tokens, folder / "tokenizer")
    student = enlarged(teacher, len(tokenizer), settings.layers)
    average = copy.deepcopy(student)
    objective = WordObjective(
        settings, teacher, student, tokenizer, prompts[: -settings.held_out], prompts[-settings.held_out :]
    )
    fit(objective, folder, settings, average=average)
    objective.model = average
    logger.info("averaged: %s", objective.evaluate())
    average.eval().save_pretrained(folder / "text_encoder")
    return average


class WordObjective:
    """The student encodes captions as the teacher does, prompts of an effect as the teacher encodes that effect's most
    typical caption of the same length, and prompts of nothing as no prompt.

    held_out: prompts for the scores alone.
    """

    def __init__(
        self,
        settings: WordStage,
        teacher: CLIPTextModel,
        student: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        prompts: LabelledPrompts,
        held_out: LabelledPrompts,
    ) -> None:
        self.settings, self.model, self.tokenizer = settings, student, tokenizer
        self.teacher = teacher.eval().requires_grad_(False)
        self.prompts, self.held_out = prompts, held_out
        self.rows = [(prompts.labels == label).nonzero()[0] for label in range(NOTHING + 1)]
        texts, effects = draw_captions(settings.captions, settings.caption_seed)
        self.captions = ["", *texts]
        self.typical = self._typical_states(texts, effects)

    @torch.no_grad()
    def _typical_states(self, texts: Sequence[str], effects: Sequence[str]) -> Tensor:
        """States [effects + 1, tokens, 24, 64] of each effect's most typical caption, by its number of tokens, and of
        no caption."""
        states, lengths = self._encode(self.teacher, texts)
        numbers = np.array([EFFECTS.index(effect) for effect in effects])
        found = []
        for effect in range(len(EFFECTS)):
            own, length = states[numbers == effect], lengths[numbers == effect]
            distance = (own[:, -1] - own[:, -1].mean(0)).square().sum(-1)
            best = {int(n): int(torch.where(length == n, distance, torch.inf).argmin()) for n in length.unique()}
            for wanted in range(states.shape[1] + 1):
                nearest = min((abs(n - wanted), n) for n in best)[1]
                found.append(own[best[nearest]])
        nothing, _ = self._encode(self.teacher, [""])
        found += [nothing[0]] * (states.shape[1] + 1)
        return torch.stack(found).unflatten(0, (NOTHING + 1, -1))

    def _encode(self, encoder: CLIPTextModel, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States [B, 24, 64] and numbers of tokens with both ends [B]."""
        found = encode_clip_text(self.tokenizer, encoder, texts)
        return found.context, found.audio_mask_1.sum(1)

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        settings = self.settings
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        rows = rng.integers(len(self.captions), size=settings.captions_per_step - 1)
        captions = ["", *(self.captions[row] for row in rows)]
        labels = rng.integers(len(EFFECTS), size=settings.prompts_per_step)
        labels[: round(settings.nothing_share * len(labels))] = NOTHING
        prompts = [self.prompts.texts[rng.choice(self.rows[label])] for label in labels]
        with torch.no_grad():
            kept, _ = self._encode(self.teacher, captions)
        states, lengths = self._encode(self.model, captions + prompts)
        keeping = (states[: len(captions)] - kept).square().mean()
        answers, lengths = states[len(captions) :], lengths[len(captions) :]
        target = self.typical[torch.from_numpy(labels), lengths]
        ended = torch.arange(states.shape[1]) >= lengths[:, None] - 1
        weight = torch.where(ended, 1.0, settings.before_end)
        return settings.keep_captions * keeping + ((answers - target).square().mean(-1) * weight).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean squared error on captions that are not trained on, beside the variance of the answers; share of the held
        out prompts near an effect, and near none, whose last state is nearest to the mean of what they should be."""
        self.model.eval()
        texts, effects = draw_captions(500, self.settings.held_out_seed)
        truth, _ = self._encode(self.teacher, texts)
        means = [truth[[each == effect for each in effects], -1].mean(0) for effect in EFFECTS]
        means.append(self.typical[NOTHING, 0, -1])
        found = {"captions": (self._encode(self.model, texts)[0] - truth).square().mean().item()}
        found["captions_spread"] = truth.var().item()
        states, _ = self._encode(self.model, self.held_out.texts)
        right = torch.cdist(states[:, -1], torch.stack(means)).argmin(1).numpy() == self.held_out.labels
        nothing = self.held_out.labels == NOTHING
        return found | {"effects": float(right[~nothing].mean()), "nothing": float(right[nothing].mean())}


def draw_captions(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Captions of scenes that need not be rendered, and their effects."""
    rng = np.random.default_rng(seed)
    effects = [EFFECTS[index % len(EFFECTS)] for index in range(count)]
    return [draw_caption(rng, effect, REGISTRY[effect].draw(rng, 3).words()) for effect in effects], effects


def enlarged(encoder: CLIPTextModel, vocabulary: int, layers: int) -> CLIPTextModel:
    """A copy that encodes texts alike, with embeddings for `vocabulary` tokens and at least `layers` layers.

    A new token starts as the mean of the others, a new layer adds nothing yet.
    """
    config: dict[str, Any] = encoder.config.to_dict()
    config |= {"vocab_size": vocabulary, "num_hidden_layers": max(config["num_hidden_layers"], layers)}
    larger = CLIPTextModel(CLIPTextConfig(**config))
    weights = larger.state_dict()
    for name, tensor in weights.items():
        if name.endswith(("out_proj.weight", "out_proj.bias", "fc2.weight", "fc2.bias")):
            tensor.zero_()
    for name, tensor in encoder.state_dict().items():
        if name.endswith("token_embedding.weight"):
            tensor = torch.cat((tensor, tensor.mean(0, keepdim=True).expand(vocabulary - len(tensor), -1)))
        weights[name] = tensor
    larger.load_state_dict(weights)
    return larger
