"""More words for the bundled model's text encoder, whose captions have few: those that WordNet puts near an effect.

A new copy of the encoder learns to answer the captions as the old one does, and prompts made of other words as the old
one answers a caption of the effect that they are near. Nothing else is trained: the experts read what they always read.
"""

from __future__ import annotations

import copy
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...encoders.conditioning import encode_clip_text
from ...synthetic import EFFECTS
from ...synthetic.captions import draw_caption
from ...synthetic.effects import REGISTRY
from ...train.loop import Budget, fit
from .architecture import save_tokenizer
from .thesaurus import SENSES, WordNet, content_words, nearness

logger = logging.getLogger(__name__)
T = TypeVar("T")
NEAR, CLEAR = 2.0, 0.6  # how much oftener than by chance walkers must be at a word; share of one effect's walkers
RARE = 3e-6  # added to chance: a word that hardly leads anywhere is near everything by accident
WORDS = 450  # of each effect, at most
CAPTIONS, CAPTION_SEED, HELD_OUT_SEED = 12_000, 40_000, 50_000
BATCH = (64, 192)  # captions and prompts of a step
BEFORE_END = 0.3  # weight of the states before the end of a prompt, which cannot know all of it
KEEPING = 4.0  # weight of captions
WORD_STEPS, RATE = 9000, 2e-3
TOKENS = 2400  # more, for the new words: a word that is one token is learned soonest
LAYERS = 3
DETERMINERS = ("", "", "", "a", "a", "the", "some", "this", "his", "her", "its", "their", "my", "every", "many", "two")
SUBJECTS = ("someone", "he", "she", "they", "something", "people")
PREPOSITIONS = ("of", "of", "in", "in", "on", "at", "by", "with", "from", "to", "for", "into", "over", "under",
                "through", "near", "behind", "against", "across", "around", "between", "after", "before", "during",
                "along", "inside", "outside", "up", "down", "out of", "like", "without")  # fmt: skip
JOINTS = (",", ",", " and", " or", " while", " as")
SHARES = (1.0, 0.7, 0.4)  # of the words of a prompt that are near its effect
FROM_GLOSSES = 0.15  # share of prompts


@dataclass(frozen=True)
class Lexicon:
    """Words by effect, the nearest first, with their parts of speech (letters of WordNet); glosses by effect; words
    of no effect; irregular forms, by word and ending."""

    words: Mapping[str, Mapping[str, str]]
    glosses: Mapping[str, Sequence[str]]
    others: Mapping[str, str]
    irregular: Mapping[tuple[str, str], str]

    @classmethod
    def near(cls, net: WordNet, seeds: Mapping[str, Sequence[str]], most: int = WORDS, near: float = NEAR) -> Lexicon:
        """What `net` has near the senses `seeds` of each effect and clear of those of the others."""
        row, found, anywhere = nearness(net, seeds)
        total = found.sum(1)
        share = found / np.maximum(total, 1e-300)[:, None]
        lift = found / (anywhere + RARE)[:, None]
        words, glosses = {}, {}
        for column, (effect, names) in enumerate(seeds.items()):
            score = np.where(share[:, column] > CLEAR, lift[:, column], 0)
            kept = [net.words[number] for number in np.argsort(-score, kind="stable") if score[number] > near]
            kept = [word for word in kept if word not in net.names][:most]
            words[effect] = {word: "".join(net.senses[word]) for word in kept}
            synsets = [net.sense(name) for name in names]
            synsets += [each[0] for word in kept[: most // 2] for each in net.senses[word].values()]
            glosses[effect] = [net.glosses[synset] for synset in dict.fromkeys(synsets)]
        counts = {word: sum(len(each) for each in net.senses[word].values()) for word in net.words}
        others = {
            word: "".join(net.senses[word])
            for word in net.words
            if word.isalpha() and word not in net.names and counts[word] > 2 and lift[row[word]].max() < near
        }
        return cls(words, glosses, others, _irregular(net))

    def split(self, share: float, rng: np.random.Generator) -> tuple[Lexicon, Lexicon | None]:
        """All but a random share of the words, and that share; None if the share is zero."""
        held_out = {word for words in self.words.values() for word in words if rng.random() < share}
        if not held_out:
            return self, None
        words = {effect: {w: p for w, p in words.items() if w in held_out} for effect, words in self.words.items()}
        return self.without(held_out), replace(self, words=words)

    def forms(self) -> dict[str, float]:
        """The single words of all forms of the words of effects, with weights: the nearest count most."""
        found: Counter[str] = Counter()
        for words in self.words.values():
            for rank, (word, parts) in enumerate(words.items()):
                for ending in endings(parts):
                    for single in content_words(self.inflect(word, ending)):
                        found[single] += weight_of(rank)
        return dict(found)

    def inflect(self, word: str, ending: str) -> str:
        """The word with the ending s, ing or ed, or none."""
        return self.irregular.get((word, ending)) or (inflect(word, ending) if ending else word)

    def without(self, held_out: set[str]) -> Lexicon:
        """All but some words, and the glosses that have none of them."""
        return Lexicon(
            {effect: {w: p for w, p in words.items() if w not in held_out} for effect, words in self.words.items()},
            {effect: [g for g in each if not held_out & {*content_words(g)}] for effect, each in self.glosses.items()},
            self.others,
            self.irregular,
        )


def endings(parts: str) -> list[str]:
    """Which forms there are of a word that is these parts of speech."""
    return [""] + ["s"] * ("n" in parts or "v" in parts) + ["ing", "ed"] * ("v" in parts)


def weight_of(rank: int) -> float:
    """Of a word among an effect's."""
    return (rank + 30) ** -0.75


def _irregular(net: WordNet) -> dict[tuple[str, str], str]:
    """Irregular plurals, past forms and participles: of each word and ending, the first of the list."""
    found: dict[tuple[str, str], str] = {}
    for part in "nv":
        for form, word in net.exceptions.get(part, {}).items():
            if part == "n" and form.endswith("ing"):
                continue
            ending = "s" if part == "n" else "ing" if form.endswith("ing") else "s" if form.endswith("s") else "ed"
            found.setdefault((word.replace("_", " "), ending), form.replace("_", " "))
    return found


def inflect(word: str, ending: str) -> str:
    """A word, or the first of several if a verb's, with the ending s, ing or ed, spelled as English does."""
    head, *rest = word.split(" ") if ending != "s" else [word]
    if re.search(r"[^aeiou]y$", head) and ending != "ing":
        head = head[:-1] + "ie"
    elif ending == "s" and re.search(r"(s|x|z|ch|sh)$", head):
        head += "e"
    elif ending != "s":
        if head.endswith("e") and not head.endswith(("ee", "oe", "ye")):
            head = head[:-1]
        elif re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]", head):
            head += head[-1]
        elif head.endswith("c"):
            head += "k"
    if ending == "ed" and head.endswith("ie"):
        ending = "d"
    return " ".join([head + ending, *rest])


class Prompts:
    """Draws prompts of words near an effect."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.pools = {effect: {kind: _pool(words, kind) for kind in "wnv"} for effect, words in lexicon.words.items()}
        self.pools[None] = {kind: _pool(lexicon.others, kind, even=True) for kind in "wnv"}

    def draw(self, rng: np.random.Generator, effect: str) -> str:
        """One prompt."""
        if rng.random() < FROM_GLOSSES:
            return self._part_of_gloss(rng, effect)
        share = _any(rng, SHARES)
        while True:
            words = _Words(rng, self, effect, share)
            text = words.phrase()
            if words.near:
                return re.sub(r"\ba (?=[aeiou])", "an ", re.sub(" +", " ", text).strip())

    def _part_of_gloss(self, rng: np.random.Generator, effect: str) -> str:
        """Three to eight words in a row of a definition or an example."""
        gloss = _any(rng, self.lexicon.glosses[effect])
        parts = re.split(r"[;:]", re.sub(r"\([^)]*\)|\"", "", gloss))
        words = _any(rng, [part for part in parts if part.strip()] or [gloss]).split()
        first = int(rng.integers(max(1, len(words) - 5)))
        return " ".join(words[first : first + int(rng.integers(3, 9))])

    def word(self, rng: np.random.Generator, effect: str | None, kind: str, ending: str | None) -> str:
        """A word of an effect, or of none, that is a noun (n), a verb (v) or anything (w), with the ending, or with any
        if that is None."""
        pool, cumulative = self.pools[effect][kind]
        word, parts = pool[min(int(np.searchsorted(cumulative, rng.random())), len(pool) - 1)]
        return self.lexicon.inflect(word, _any(rng, ["", *endings(parts)]) if ending is None else ending)


def _pool(words: Mapping[str, str], kind: str, even: bool = False) -> tuple[list[tuple[str, str]], NDArray[np.float64]]:
    """The words of a kind (all, if there is none) with their parts of speech, and the sums of their chances."""
    chosen = [(rank, item) for rank, item in enumerate(words.items()) if kind == "w" or kind in item[1]]
    chosen = chosen or list(enumerate(words.items()))
    chances = np.array([1.0 if even else weight_of(rank) for rank, _ in chosen])
    return [item for _, item in chosen], np.cumsum(chances / chances.sum())


class _Words:
    """The words of one prompt; each is near the effect or any other, as chance has it. near: whether one was."""

    def __init__(self, rng: np.random.Generator, prompts: Prompts, effect: str, share: float) -> None:
        self.rng, self.prompts, self.effect, self.share, self.near = rng, prompts, effect, share, False

    def word(self, kind: str, ending: str | None) -> str:
        chosen = self.rng.random() < self.share
        self.near |= chosen
        return self.prompts.word(self.rng, self.effect if chosen else None, kind, ending)

    def noun_phrase(self) -> str:
        before = _any(self.rng, DETERMINERS)
        many = before in ("some", "many", "their", "two", "") and self.rng.random() < 0.6
        adjective = self.word("w", None) if self.rng.random() < 0.25 else ""
        return f"{before} {adjective} {self.word('n', 's' if many else '')}"

    def verb(self) -> str:
        return self.word("v", _any(self.rng, ("ing", "ing", "s", "ed", "")))

    def phrase(self) -> str:
        """A word or two, a noun phrase, a clause; or two of these."""
        match int(self.rng.integers(10)):
            case 0:
                return self.word("w", None)
            case 1:
                return f"{self.word('w', None)} {self.word('w', None)}"
            case 2:
                return self.noun_phrase()
            case 3:
                return f"{self.noun_phrase()} {self.verb()}"
            case 4:
                return f"{_any(self.rng, SUBJECTS)} {self.verb()} {self.noun_phrase()}"
            case 5:
                return f"{self.noun_phrase()} {_any(self.rng, PREPOSITIONS)} {self.noun_phrase()}"
            case 6:
                return f"{self.noun_phrase()} {self.verb()} {_any(self.rng, PREPOSITIONS)} {self.noun_phrase()}"
            case 7:
                return f"{self.verb()} {_any(self.rng, ('', *PREPOSITIONS))} {self.noun_phrase()}"
            case 8:
                return f"the {_any(self.rng, ('sound', 'noise', 'sight'))} of {self.noun_phrase()}"
            case _:
                return f"{self.phrase()}{_any(self.rng, JOINTS)} {self.phrase()}"


def _any(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def draw_captions(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Captions of scenes that need not be rendered, and their effects."""
    rng = np.random.default_rng(seed)
    effects = [EFFECTS[index % len(EFFECTS)] for index in range(count)]
    return [draw_caption(rng, effect, REGISTRY[effect].draw(rng, 3).words()) for effect in effects], effects


class WordTask:
    """The student answers captions as the teacher does, and prompts of an effect as the teacher answers the caption
    of their length that is the most usual of that effect."""

    def __init__(
        self, teacher: CLIPTextModel, student: CLIPTextModel, tokenizer: CLIPTokenizer, lexicon: Lexicon,
        captions: int = CAPTIONS, held_out: Lexicon | None = None, batch: tuple[int, int] = BATCH,
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.batch = student, tokenizer, batch
        self.teacher = teacher.eval().requires_grad_(False)
        self.prompts, self.held_out = Prompts(lexicon), held_out and Prompts(held_out)
        texts, effects = draw_captions(captions, CAPTION_SEED)
        self.captions = ["", *texts]
        self.usual = self._usual(texts, effects)

    @torch.no_grad()
    def _usual(self, texts: list[str], effects: list[str]) -> Tensor:
        """States [effects, tokens, 24, 64] of each effect's most usual caption, by its number of tokens."""
        states, length = self._encode(self.teacher, texts)
        effects = np.array([EFFECTS.index(effect) for effect in effects])
        found = []
        for effect in range(len(EFFECTS)):
            own = states[effects == effect]
            lengths = length[effects == effect]
            mean = own[:, -1].mean(0)
            distance = (own[:, -1] - mean).square().sum(-1)
            best = {int(n): int(torch.where(lengths == n, distance, torch.inf).argmin()) for n in lengths.unique()}
            found.append(torch.stack([
                own[best[min(best, key=lambda n, wanted=wanted: (abs(n - wanted), n))]]
                for wanted in range(states.shape[1] + 1)
            ]))  # fmt: skip
        return torch.stack(found)

    def _encode(self, encoder: CLIPTextModel, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States [B, 24, 64] and numbers of tokens with both ends [B]."""
        found = encode_clip_text(self.tokenizer, encoder, texts)
        return found.context, found.audio_mask_1.sum(1)

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        captions = ["", *(self.captions[row] for row in rng.integers(len(self.captions), size=self.batch[0] - 1))]
        effects = rng.integers(len(EFFECTS), size=self.batch[1])
        prompts = [self.prompts.draw(rng, EFFECTS[effect]) for effect in effects]
        with torch.no_grad():
            kept, _ = self._encode(self.teacher, captions)
        states, lengths = self._encode(self.model, captions + prompts)
        keeping = (states[: len(captions)] - kept).square().mean()
        answers, lengths = states[len(captions) :], lengths[len(captions) :]
        target = self.usual[torch.from_numpy(effects), lengths]
        ended = torch.arange(states.shape[1]) >= lengths[:, None] - 1
        weight = torch.where(ended, 1.0, BEFORE_END)
        return KEEPING * keeping + ((answers - target).square().mean(-1) * weight).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean squared error on captions that are not trained on, beside the variance of the answers; share of single
        words, known and held out, whose last state is nearest to the mean of their effect's."""
        self.model.eval()
        texts, effects = draw_captions(500, HELD_OUT_SEED)
        truth, _ = self._encode(self.teacher, texts)
        means = torch.stack([truth[[each == effect for each in effects], -1].mean(0) for effect in EFFECTS])
        found = {"captions": (self._encode(self.model, texts)[0] - truth).square().mean().item()}
        found["captions_spread"] = truth.var().item()
        for name, prompts in (("known", self.prompts), ("held_out", self.held_out)):
            if prompts is not None:
                rng = np.random.default_rng(HELD_OUT_SEED)
                rows = [(effect, word) for effect, words in prompts.lexicon.words.items() for word in words]
                rows = [rows[k] for k in rng.permutation(len(rows))[:500]]
                found[name] = float(np.mean([
                    EFFECTS[k] == row[0] for k, row in zip(self.nearest([r[1] for r in rows], means), rows, strict=True)
                ]))  # fmt: skip
        return found

    @torch.no_grad()
    def nearest(self, texts: Sequence[str], means: Tensor) -> list[int]:
        """The effect whose mean last state is nearest to a text's."""
        return torch.cdist(self._encode(self.model, texts)[0][:, -1], means).argmin(1).tolist()


def extend_tokenizer(
    tokenizer: CLIPTokenizer, words: Mapping[str, float], kept: Sequence[str], more: int, folder: Path
) -> CLIPTokenizer:
    """`tokenizer` with up to `more` further merges, those that shorten `words` most, by weight; saved in `folder`.

    The old tokens keep their numbers, and the texts `kept` their tokens.
    """
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary, merges = dict(model["vocab"]), [tuple(pair) for pair in model["merges"]]
    pieces = {word: tuple(tokenizer.tokenize(word)) for word in words}
    forbidden = {pair for text in kept for pair in pairwise(tokenizer.tokenize(text)) if not pair[0].endswith("</w>")}
    where: dict[tuple[str, str], set[str]] = {}
    weight: Counter[tuple[str, str]] = Counter()

    def count(word: str, sign: int) -> None:
        for pair in pairwise(pieces[word]):
            weight[pair] += sign * words[word]
            where.setdefault(pair, set()).add(word)

    for word in pieces:
        count(word, 1)
    for _ in range(more):
        usable = (pair for pair in weight if pair not in forbidden and "".join(pair) not in vocabulary)
        best = max(usable, key=lambda pair: (weight[pair], pair), default=None)
        if best is None:
            break
        merges.append(best)
        vocabulary["".join(best)] = len(vocabulary)
        for word in sorted(where.pop(best)):
            count(word, -1)
            pieces[word] = _merged(pieces[word], best)
            count(word, 1)
        del weight[best]
    return save_tokenizer(vocabulary, merges, folder)


def _merged(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """The pieces with each occurrence of a pair, from the left, as one."""
    found: list[str] = []
    for piece in pieces:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return tuple(found)


def grown(encoder: CLIPTextModel, vocabulary: int, layers: int = LAYERS) -> CLIPTextModel:
    """A copy that answers alike, with embeddings for more tokens and with more layers.

    A new token starts as the mean of the others, a new layer adds nothing yet.
    """
    depth = encoder.config.num_hidden_layers
    larger = CLIPTextModel(
        CLIPTextConfig(**encoder.config.to_dict() | {"vocab_size": vocabulary, "num_hidden_layers": max(depth, layers)})
    )
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


def learn_words(
    teacher: CLIPTextModel, tokenizer: CLIPTokenizer, wordnet: Path, folder: Path, steps: int, seed: int,
    held_out: float = 0.0,
) -> CLIPTextModel:  # fmt: skip
    """Trains a copy of `teacher`, and saves it in folder/text_encoder, its tokenizer with up to `TOKENS` more tokens in
    folder/tokenizer. Goes on from `folder` if there is a state. held_out: share of the words that only the log knows.
    """
    lexicon = Lexicon.near(WordNet.load(wordnet), {effect: names.split() for effect, names in SENSES.items()})
    logger.info("words of each effect: %s", {effect: len(words) for effect, words in lexicon.words.items()})
    known, unknown = lexicon.split(held_out, np.random.default_rng(seed))
    captions, _ = draw_captions(CAPTIONS, CAPTION_SEED)
    tokenizer = extend_tokenizer(tokenizer, lexicon.forms(), captions, TOKENS, folder / "tokenizer")
    student = grown(teacher, len(tokenizer))
    average = copy.deepcopy(student)
    task = WordTask(teacher, student, tokenizer, known, held_out=unknown)
    fit(task, folder, Budget(steps=steps), RATE, seed, log_every=50, evaluate_every=500, average=average)
    task.model = average
    logger.info("averaged: %s", task.evaluate())
    average.eval().save_pretrained(folder / "text_encoder")
    return average
