"""The command `words`: the text encoder, trained on captions of few words, learns other words that are near an effect.

A new copy of the encoder learns to encode captions as the old one does, and prompts made of other words as the old one
encodes a caption of the effect that they are near. Nothing else is trained: to the experts, the new words look like the
old ones.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...encoders.conditioning import encode_clip_text
from ...synthetic import EFFECTS
from ...synthetic.captions import draw_caption
from ...synthetic.effects import REGISTRY
from .experts import load
from .lexicon import Lexicon
from .prompts import Prompts
from .recipe import TinyRecipe, WordStage
from .tokenizer import extend_tokenizer
from .training_loop import fit
from .wordnet import SENSES, WordNet

logger = logging.getLogger(__name__)


def train_words(recipe: TinyRecipe) -> None:
    """In the runs, `words/text_encoder` and `words/tokenizer`, with the state of the training beside them."""
    lexicon = Lexicon.near(
        WordNet.load(recipe.words.wordnet), {effect: names.split() for effect, names in SENSES.items()}, recipe.words
    )
    logger.info("words of each effect: %s", {effect: len(words) for effect, words in lexicon.words.items()})
    model, tokenizer = load(recipe)
    learn_words(model.text_encoder, tokenizer, lexicon, recipe.words, recipe.runs / "words")


def learn_words(
    teacher: CLIPTextModel, tokenizer: CLIPTokenizer, lexicon: Lexicon, settings: WordStage, folder: Path
) -> CLIPTextModel:
    """Trains a copy of `teacher`, and saves it in folder/text_encoder and its tokenizer, with more tokens, in
    folder/tokenizer. Goes on from `folder` if there is a state."""
    known, unknown = lexicon.split(settings.held_out, np.random.default_rng(settings.seed))
    captions, _ = draw_captions(settings.captions, settings.caption_seed)
    tokenizer = extend_tokenizer(tokenizer, lexicon.forms(), captions, settings.more_tokens, folder / "tokenizer")
    student = enlarged(teacher, len(tokenizer), settings.layers)
    average = copy.deepcopy(student)
    objective = WordObjective(settings, teacher, student, tokenizer, known, unknown)
    fit(objective, folder, settings, average=average)
    objective.model = average
    logger.info("averaged: %s", objective.evaluate())
    average.eval().save_pretrained(folder / "text_encoder")
    return average


class WordObjective:
    """The student encodes captions as the teacher does, and prompts of an effect as the teacher encodes that effect's
    most typical caption of the same length.

    known: the words of prompts.    unknown: words for the scores alone.
    """

    def __init__(
        self,
        settings: WordStage,
        teacher: CLIPTextModel,
        student: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        known: Lexicon,
        unknown: Lexicon | None = None,
    ) -> None:
        self.settings, self.model, self.tokenizer = settings, student, tokenizer
        self.teacher = teacher.eval().requires_grad_(False)
        self.prompts = Prompts(known, settings.near_shares, settings.from_glosses)
        self.judged = {"known": known} | ({"held_out": unknown} if unknown else {})
        texts, effects = draw_captions(settings.captions, settings.caption_seed)
        self.captions = ["", *texts]
        self.typical = self._typical_states(texts, effects)

    @torch.no_grad()
    def _typical_states(self, texts: Sequence[str], effects: Sequence[str]) -> Tensor:
        """States [effects, tokens, 24, 64] of each effect's most typical caption, by its number of tokens."""
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
        return torch.stack(found).unflatten(0, (len(EFFECTS), -1))

    def _encode(self, encoder: CLIPTextModel, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States [B, 24, 64] and numbers of tokens with both ends [B]."""
        found = encode_clip_text(self.tokenizer, encoder, texts)
        return found.context, found.audio_mask_1.sum(1)

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        settings = self.settings
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        rows = rng.integers(len(self.captions), size=settings.captions_per_step - 1)
        captions = ["", *(self.captions[row] for row in rows)]
        effects = rng.integers(len(EFFECTS), size=settings.prompts_per_step)
        prompts = [self.prompts.draw(rng, EFFECTS[effect]) for effect in effects]
        with torch.no_grad():
            kept, _ = self._encode(self.teacher, captions)
        states, lengths = self._encode(self.model, captions + prompts)
        keeping = (states[: len(captions)] - kept).square().mean()
        answers, lengths = states[len(captions) :], lengths[len(captions) :]
        target = self.typical[torch.from_numpy(effects), lengths]
        ended = torch.arange(states.shape[1]) >= lengths[:, None] - 1
        weight = torch.where(ended, 1.0, settings.before_end)
        return settings.keep_captions * keeping + ((answers - target).square().mean(-1) * weight).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean squared error on captions that are not trained on, beside the variance of the answers; share of single
        words, known and held out, whose last state is nearest to the mean of their effect's."""
        self.model.eval()
        texts, effects = draw_captions(500, self.settings.held_out_seed)
        truth, _ = self._encode(self.teacher, texts)
        means = torch.stack([truth[[each == effect for each in effects], -1].mean(0) for effect in EFFECTS])
        found = {"captions": (self._encode(self.model, texts)[0] - truth).square().mean().item()}
        found["captions_spread"] = truth.var().item()
        for name, lexicon in self.judged.items():
            rng = np.random.default_rng(self.settings.held_out_seed)
            rows = [(effect, word) for effect, words in lexicon.words.items() for word in words]
            rows = [rows[number] for number in rng.permutation(len(rows))[:500]]
            nearest = self.nearest_effects([word for _, word in rows], means)
            found[name] = float(np.mean([one == effect for one, (effect, _) in zip(nearest, rows, strict=True)]))
        return found

    @torch.no_grad()
    def nearest_effects(self, texts: Sequence[str], means: Tensor) -> list[str]:
        """The effects whose mean last state [effects, 64] is nearest to each text's."""
        distances = torch.cdist(self._encode(self.model, texts)[0][:, -1], means)
        return [EFFECTS[number] for number in distances.argmin(1).tolist()]


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
