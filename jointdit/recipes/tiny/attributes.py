"""The command `attributes`: the text encoder says in every state which of a scene's own words a caption has.

An encoder that learned beside the experts keeps what they ask for, the effect, and forgets at the end of a caption that
the ball was to be red; then no expert can learn what red is. A copy of it learns to answer as before, plus a code for
each such word from where it stands to the end. The codes lie where captions differ least, so that what the experts read
so far hardly changes, and the Joint Blocks read more of what lies there.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ...encoders.conditioning import encode_clip_text
from ...errors import InputError
from ...models.joint_block import JointBlocks
from ...pipeline import JointDiTPipeline
from ...synthetic import EFFECTS
from ...synthetic.effects import REGISTRY
from .recipe import AttributeStage, TinyRecipe
from .training_loop import fit
from .words import draw_captions

logger = logging.getLogger(__name__)


def train_attributes(recipe: TinyRecipe) -> None:
    """From the model `start` to the folder `output`; the state of the training is in the runs, in `attributes`."""
    if recipe.start is None:
        raise InputError("attributes: no model to start from; name one with --start")
    pipe = JointDiTPipeline.from_pretrained(recipe.start)
    teacher = pipe.text_encoder.float()
    student = learn_attributes(teacher, pipe.tokenizer, recipe.attributes, recipe.runs / "attributes")
    captions, _ = draw_captions(2000, recipe.attributes.caption_seed)
    with torch.no_grad():
        plain = encode_clip_text(pipe.tokenizer, teacher, captions).context
    strengthen(pipe.joint_blocks.float(), plain, recipe.attributes.gain)
    pipe.register_modules(text_encoder=student.half())
    pipe.joint_blocks.half()
    pipe.save_pretrained(recipe.output)


def learn_attributes(
    teacher: CLIPTextModel, tokenizer: CLIPTokenizer, settings: AttributeStage, folder: Path
) -> CLIPTextModel:
    """A trained copy of `teacher`. Goes on from `folder` if there is a state."""
    student = copy.deepcopy(teacher)
    average = copy.deepcopy(teacher)
    objective = AttributeObjective(settings, teacher, student, tokenizer)
    fit(objective, folder, settings, average=average)
    objective.model = average
    logger.info("averaged: %s", objective.evaluate())
    return average.eval()


@torch.no_grad()
def strengthen(blocks: JointBlocks, plain: Tensor, gain: float) -> None:
    """Multiplies by `gain` what the Joint Blocks read along the half of the directions in which plain states
    [B, N, W] differ least, so that codes there are seen; what they read of plain states stays."""
    norm, linear = cast(nn.LayerNorm, blocks.text_context[0]), cast(nn.Linear, blocks.text_context[1])
    normed = norm(plain).flatten(0, -2)
    quiet = quiet_directions(normed)
    more = (gain - 1) * linear.weight @ quiet @ quiet.T
    linear.weight += more
    linear.bias -= more @ normed.mean(0)


def quiet_directions(states: Tensor) -> Tensor:
    """The half of the directions [W, W / 2] along which states [N, W] differ least."""
    return torch.linalg.eigh(states.T.cov()).eigenvectors[:, : states.shape[1] // 2]


def attribute_words() -> list[str]:
    """Every word that a scene may tell of itself, such as a colour, a size or a side."""
    rng = np.random.default_rng(0)
    drawn = (REGISTRY[effect].draw(rng, 3).words().values() for effect in EFFECTS for _ in range(400))
    return sorted({word for values in drawn for word in values})


class AttributeObjective:
    """The student answers as the teacher does, plus codes; the bias and the weight of the last norm stay in place.

    Raises InputError for a tokenizer in which one of the words is not a token.
    """

    def __init__(
        self, settings: AttributeStage, teacher: CLIPTextModel, student: CLIPTextModel, tokenizer: CLIPTokenizer
    ) -> None:
        self.settings, self.model, self.tokenizer = settings, student, tokenizer
        self.teacher = teacher.eval().requires_grad_(False)
        for parameter in _last_norm(student).parameters():
            parameter.requires_grad_(False)
        vocabulary: Mapping[str, int] = tokenizer.get_vocab()
        words = attribute_words()
        if missing := [word for word in words if f"{word}</w>" not in vocabulary]:
            raise InputError(f"{', '.join(missing)}: no tokens of the text encoder")
        self.captions, _ = draw_captions(settings.captions, settings.caption_seed)
        self.words = words
        self.others = sorted(token.removesuffix("</w>") for token in vocabulary if token.endswith("</w>"))
        self.codes = torch.zeros(len(vocabulary), teacher.config.hidden_size)
        self.codes[[vocabulary[f"{word}</w>"] for word in words]] = self._draw_codes(len(words))

    def _draw_codes(self, count: int) -> Tensor:
        """Codes [count, W] of unit variance, in the half of the directions along which captions differ least."""
        states = self._normed(self._encode(self.teacher, self.captions[:2000])[0]).flatten(0, 1)
        directions = quiet_directions(states)
        drawn = torch.randn(count, directions.shape[1], generator=torch.Generator().manual_seed(self.settings.seed))
        codes = drawn @ directions.T
        codes = codes - codes.mean(1, keepdim=True)
        return codes / codes.std(1, keepdim=True)

    def _encode(self, encoder: CLIPTextModel, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States [B, 24, W] and tokens [B, 24]."""
        found = encode_clip_text(self.tokenizer, encoder, texts)
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=found.context.shape[1], truncation=True, return_tensors="pt"
        )
        return found.context, tokens.input_ids

    def _normed(self, states: Tensor) -> Tensor:
        norm = _last_norm(self.teacher)
        return (states - norm.bias) / norm.weight

    @torch.no_grad()
    def target(self, texts: Sequence[str]) -> Tensor:
        """States [B, 24, W] as the teacher's, with the codes of the words so far."""
        norm = _last_norm(self.teacher)
        states, tokens = self._encode(self.teacher, texts)
        coded = self._normed(states) + self.settings.strength * self.codes[tokens].cumsum(1)
        return nn.functional.layer_norm(coded, coded.shape[-1:], norm.weight, norm.bias)

    def texts(self, rng: np.random.Generator, count: int) -> list[str]:
        """Half captions, half a few words of the vocabulary, of which some are a scene's own."""
        captions = [self.captions[row] for row in rng.integers(len(self.captions), size=count // 2)]
        loose = []
        for _ in range(count - len(captions)):
            words = [str(rng.choice(self.others)) for _ in range(rng.integers(1, 6))]
            own = [str(rng.choice(self.words)) for _ in range(rng.integers(0, 3))]
            loose.append(" ".join(rng.permutation(words + own)))
        return ["", *captions, *loose]

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        texts = self.texts(rng, self.settings.texts_per_step)
        return (self._encode(self.model, texts)[0] - self.target(texts)).square().mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Of held-out captions: mean squared error, beside the one of the teacher, which has no codes; and the share of
        these words that are known at the end, where the answer for the caption with each other word in this place would
        be further away."""
        self.model.eval()
        texts, _ = draw_captions(500, self.settings.held_out_seed)
        target, answers = self.target(texts), self._encode(self.model, texts)[0]
        found = {
            "captions": (answers - target).square().mean().item(),
            "without_codes": (self._encode(self.teacher, texts)[0] - target).square().mean().item(),
        }
        known = []
        for text, answer in zip(texts[:100], answers[:100], strict=True):
            for word in set(text.split()) & set(self.words):
                others = [text.replace(word, other) for other in self.words]
                distances = (self.target(others)[:, -1] - answer[-1]).square().sum(-1)
                known.append(self.words[int(distances.argmin())] == word)
        return found | {"known": float(np.mean(known))}


def _last_norm(encoder: CLIPTextModel) -> nn.LayerNorm:
    found = next(each for name, each in encoder.named_modules() if name.endswith("final_layer_norm"))
    assert isinstance(found, nn.LayerNorm)
    return found
