"""Prompts as people might write them, of words that are near an effect."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .lexicon import Lexicon, endings, weight_of

T = TypeVar("T")
Pool = tuple[list[tuple[str, str]], NDArray[np.float64]]  # words with their parts of speech; sums of their chances
DETERMINERS = ("", "", "", "a", "a", "the", "some", "this", "his", "her", "its", "their", "my", "every", "many", "two")
SUBJECTS = ("someone", "he", "she", "they", "something", "people")
PREPOSITIONS = ("of", "of", "in", "in", "on", "at", "by", "with", "from", "to", "for", "into", "over", "under",
                "through", "near", "behind", "against", "across", "around", "between", "after", "before", "during",
                "along", "inside", "outside", "up", "down", "out of", "like", "without")  # fmt: skip
CONJUNCTIONS = (",", ",", " and", " or", " while", " as")


class Prompts:
    """Draws prompts of words near an effect.

    near_shares: of a prompt's words, how many are near the effect; one of these is drawn.
    from_glosses: share of the prompts that are parts of definitions.
    """

    def __init__(self, lexicon: Lexicon, near_shares: Sequence[float], from_glosses: float) -> None:
        self.lexicon, self.near_shares, self.from_glosses = lexicon, near_shares, from_glosses
        self.pools: dict[str | None, dict[str, Pool]] = {
            effect: {kind: _pool(words, kind) for kind in "wnv"} for effect, words in lexicon.words.items()
        }
        self.pools[None] = {kind: _pool(lexicon.others, kind, even=True) for kind in "wnv"}

    def draw(self, rng: np.random.Generator, effect: str) -> str:
        """One prompt."""
        if rng.random() < self.from_glosses:
            return self._part_of_gloss(rng, effect)
        share = _any(rng, self.near_shares)
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


def _pool(words: Mapping[str, str], kind: str, even: bool = False) -> Pool:
    """The words of a kind (all, if there is none) with their parts of speech, and the sums of their chances."""
    chosen = [(rank, item) for rank, item in enumerate(words.items()) if kind == "w" or kind in item[1]]
    chosen = chosen or list(enumerate(words.items()))
    chances = np.array([1.0 if even else weight_of(rank) for rank, _ in chosen])
    return [item for _, item in chosen], np.cumsum(chances / chances.sum())


class _Words:
    """Draws the words of one prompt, each of which is near the effect with the chance `share`, and else of no effect.
    near: whether one was."""

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
                return f"{self.phrase()}{_any(self.rng, CONJUNCTIONS)} {self.phrase()}"


def _any(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]
