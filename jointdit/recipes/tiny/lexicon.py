"""Which words are near an effect, and their forms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .recipe import WordStage
from .wordnet import WordNet, content_words, nearness


@dataclass(frozen=True)
class Lexicon:
    """The words of each effect.

    words: by effect, the nearest first, with their parts of speech (letters of WordNet).    glosses: by effect.
    others: words of no effect, with their parts of speech.    irregular: forms by word and ending.
    """

    words: Mapping[str, Mapping[str, str]]
    glosses: Mapping[str, Sequence[str]]
    others: Mapping[str, str]
    irregular: Mapping[tuple[str, str], str]

    @classmethod
    def near(cls, net: WordNet, seeds: Mapping[str, Sequence[str]], settings: WordStage) -> Lexicon:
        """What `net` has near the senses `seeds` of each effect and not near those of the others."""
        row, found, anywhere = nearness(net, seeds)
        total = found.sum(1)
        share = found / np.maximum(total, 1e-300)[:, None]
        lift = found / (anywhere + settings.rare)[:, None]
        words, glosses = {}, {}
        for column, (effect, names) in enumerate(seeds.items()):
            score = np.where(share[:, column] > settings.clear, lift[:, column], 0)
            kept = [net.words[number] for number in np.argsort(-score, kind="stable") if score[number] > settings.near]
            kept = [word for word in kept if word not in net.names][: settings.words_per_effect]
            words[effect] = {word: "".join(net.senses[word]) for word in kept}
            synsets = [net.sense(name) for name in names]
            nearest = kept[: settings.words_per_effect // 2]
            synsets += [each[0] for word in nearest for each in net.senses[word].values()]
            glosses[effect] = [net.glosses[synset] for synset in dict.fromkeys(synsets)]
        counts = {word: sum(len(each) for each in net.senses[word].values()) for word in net.words}
        others = {
            word: "".join(net.senses[word])
            for word in net.words
            if word.isalpha() and word not in net.names and counts[word] > 2 and lift[row[word]].max() < settings.near
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
        found: defaultdict[str, float] = defaultdict(float)
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
    """The endings that a word of these parts of speech can have."""
    return [""] + ["s"] * ("n" in parts or "v" in parts) + ["ing", "ed"] * ("v" in parts)


def weight_of(rank: int) -> float:
    """The weight of an effect's word, by its place among them."""
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
