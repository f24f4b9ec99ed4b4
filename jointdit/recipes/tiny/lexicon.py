"""Which words are near an effect, and their forms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...synthetic import EFFECTS
from .recipe import WordStage
from .sentences import NOTHING, SentenceTeacher
from .wordnet import WordNet, content_words

NAMES = (*EFFECTS, None)  # by the number of a label


@dataclass(frozen=True)
class Lexicon:
    """The words of each effect, and under None those of no effect.

    words: the nearest first, with their parts of speech (letters of WordNet).    glosses: of these words.
    irregular: forms by word and ending.
    """

    words: Mapping[str | None, Mapping[str, str]]
    glosses: Mapping[str | None, Sequence[str]]
    irregular: Mapping[tuple[str, str], str]

    @classmethod
    def judged(cls, net: WordNet, teacher: SentenceTeacher, settings: WordStage) -> Lexicon:
        """All single words of `net`, by what the teacher hears in them. Of those near nothing, the ones of many senses,
        which are the common ones."""
        known = [word for word in net.senses if word.isalpha() and len(word) > 2 and word not in net.names]
        scores = teacher.scores(known)
        labels = scores.argmax(1).numpy()
        words: dict[str | None, dict[str, str]] = {}
        glosses: dict[str | None, Sequence[str]] = {}
        for label, name in enumerate(NAMES):
            rows = (labels == label).nonzero()[0]
            own = [known[row] for row in rows[scores[rows, label].argsort(descending=True).numpy()]]
            if label == NOTHING:
                own = [word for word in own if sum(map(len, net.senses[word].values())) > settings.senses]
            else:
                own = own[: settings.words_per_effect]
            words[name] = {word: "".join(net.senses[word]) for word in own}
            synsets = dict.fromkeys(each[0] for word in own for each in net.senses[word].values())
            glosses[name] = [net.glosses[synset] for synset in synsets]
        return cls(words, glosses, irregular_forms(net))

    def forms(self) -> dict[str, float]:
        """The single words of all forms of the words, with weights: the nearest of an effect count most."""
        found: defaultdict[str, float] = defaultdict(float)
        for name, words in self.words.items():
            for rank, (word, parts) in enumerate(words.items()):
                for ending in endings(parts):
                    for single in content_words(self.inflect(word, ending)):
                        found[single] += weight_of(rank) if name else UNUSUAL
        return dict(found)

    def inflect(self, word: str, ending: str) -> str:
        """The word with the ending s, ing or ed, or none."""
        return self.irregular.get((word, ending)) or (inflect(word, ending) if ending else word)


UNUSUAL = 1e-3  # weight of a word of no effect


def endings(parts: str) -> list[str]:
    """The endings that a word of these parts of speech can have."""
    return [""] + ["s"] * ("n" in parts or "v" in parts) + ["ing", "ed"] * ("v" in parts)


def weight_of(rank: int) -> float:
    """The weight of an effect's word, by its place among them."""
    return (rank + 30) ** -0.75


def irregular_forms(net: WordNet) -> dict[tuple[str, str], str]:
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
