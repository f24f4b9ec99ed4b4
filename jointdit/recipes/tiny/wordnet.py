"""Which words are near an effect: random walks over WordNet, from the senses of the words that captions have.

WordNet 3.0 (Debian: wordnet-base) is read as it is installed; its file formats are described in wndb(5WN). The walk is
personalised PageRank, which Agirre and Soroa (2009) use on WordNet to disambiguate words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from ...errors import InputError

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
# Shares of the walkers that leave a synset for related synsets, for its own words and for the words of its gloss; that
# leave a word for its senses and for the synsets whose glosses have it; that start anew at each of the steps.
FROM_SYNSET, FROM_WORD = (0.45, 0.25, 0.3), (0.7, 0.3)
RESTART, ROUNDS = 0.2, 25
COMMON = 1 / 200  # words in more than this share of the glosses lead everywhere

# The content words of the captions in the sense that they have there: lemma, part of speech, number of the sense.
SENSES: Mapping[str, str] = {
    "ball": "ball.n.1 ball.n.3 ball.n.6 bounce.v.1 bounce.v.2 bounce.n.3 hop.v.1 hop.n.1 jump.v.1",
    "lightning": "lightning.n.1 lightning.n.2 thunder.n.2 thunder.v.3 thunderstorm.n.1 storm.n.1 bolt.n.1 flash.n.1 "
    "rumble.n.1 clap.n.1",
    "hammer": "hammer.n.2 hammer.n.8 hammer.v.1 blow.n.2 knock.n.1 knock.v.2 pound.v.1 pound.v.2 bang.n.1 bang.v.1 "
    "hit.v.3 strike.v.1",
    "heartbeat": "heartbeat.n.1 heart.n.2 beat.v.4 throb.v.1 throb.v.2 throb.n.2 thump.v.1 pulse.v.1 pulse.n.3",
    "pendulum": "pendulum.n.1 clock.n.1 grandfather_clock.n.1 wall_clock.n.1 tick.v.2 tick.n.1 swing.v.2 swing.n.4 "
    "sway.v.1 click.n.1 click.v.2",
    "drops": "drop.n.1 drip.n.1 drip.n.2 drip.v.1 drip.v.2 tap.n.3 leak.v.3 leak.n.4 splash.n.1 splash.v.5 plop.n.1 "
    "plop.v.2 puddle.n.2 ripple.n.1",
    "rain": "rain.n.1 rain.n.2 rain.v.1 shower.n.3 pour.v.6 patter.v.1 patter.n.2",
    "bell": "bell.n.1 bell.n.3 church_bell.n.1 ring.v.1 ring.v.3 ringing.n.1 toll.v.1 chime.n.1 chime.v.1",
    "fireworks": "firework.n.1 rocket.n.4 rocket.n.5 skyrocket.n.2 explode.v.2 explode.v.9 burst.n.1 burst.v.3 "
    "bang.n.2 spark.n.6 crackle.n.1 crackle.v.1",
    "siren": "siren.n.3 siren.n.4 howl.n.3 howl.v.3 blare.v.2 blare.n.1 police_car.n.1 ambulance.n.1 fire_engine.n.1 "
    "flash.v.1 flash.n.7 warning.n.1",
}  # fmt: skip


@dataclass(frozen=True)
class WordNet:
    """Synsets and words, both by number.

    words: lower case, with spaces.    senses: of each word, synsets by part of speech, the most frequent first.
    members, related: of each synset.    glosses: text of each synset.    exceptions: irregular forms of words.
    names: words that are always capitalised.
    """

    words: tuple[str, ...]
    senses: Mapping[str, Mapping[str, Sequence[int]]]
    members: tuple[tuple[str, ...], ...]
    related: tuple[tuple[int, ...], ...]
    glosses: tuple[str, ...]
    exceptions: Mapping[str, Mapping[str, str]]
    names: frozenset[str]

    @classmethod
    def load(cls, folder: Path) -> WordNet:
        """From the folder of data.noun, index.noun, noun.exc and so on. Raises InputError for a folder without them."""
        missing = [name for part in PARTS for name in (f"data.{part}", f"index.{part}") if not (folder / name).exists()]
        if missing:
            raise InputError(f"{folder / missing[0]}: missing; install WordNet 3.0 (Debian: wordnet-base)")
        numbers: dict[tuple[str, str], int] = {}
        members, pointers, glosses = [], [], []
        spellings: set[str] = set()
        for part in PARTS:
            for line in _lines(folder / f"data.{part}"):
                fields, gloss = line.split(" | ", 1)
                fields = fields.split()
                count = int(fields[3], 16)
                names = [re.sub(r"\(\w+\)$", "", name) for name in fields[4 : 4 + 2 * count : 2]]
                first = 5 + 2 * count
                last = first + 4 * int(fields[first - 1])
                numbers[PARTS[part], fields[0]] = len(members)
                spellings.update(name.replace("_", " ") for name in names)
                members.append(tuple(name.lower().replace("_", " ") for name in names))
                pointers.append(tuple(zip(fields[first + 2 : last : 4], fields[first + 1 : last : 4], strict=True)))
                glosses.append(gloss.strip())
        senses: dict[str, dict[str, Sequence[int]]] = {}
        for part, letter in PARTS.items():
            for line in _lines(folder / f"index.{part}"):
                fields = line.split()
                synsets = [numbers[letter, offset] for offset in fields[-int(fields[2]) :]]
                senses.setdefault(fields[0].replace("_", " "), {})[letter] = synsets
        exceptions = {
            letter: dict(line.split()[:2] for line in _lines(path))
            for part, letter in PARTS.items()
            if (path := folder / f"{part}.exc").exists()
        }
        return cls(
            words=tuple(sorted(senses)),
            senses=senses,
            members=tuple(members),
            related=tuple(tuple(numbers[pointer] for pointer in each) for each in pointers),
            glosses=tuple(glosses),
            exceptions=exceptions,
            names=frozenset(word for word in senses if word not in spellings),
        )

    def sense(self, name: str) -> int:
        """The synset of a name such as fire_engine.n.1. Raises KeyError."""
        word, part, number = name.rsplit(".", 2)
        return self.senses[word.replace("_", " ")][part][int(number) - 1]

    def base(self, word: str) -> str:
        """The word that `word` is a form of, or itself."""
        for letter, exceptions in self.exceptions.items():
            if exceptions.get(word) in self.senses and letter in self.senses[exceptions[word]]:
                return exceptions[word]
        for ending, instead in (("ies", "y"), ("es", "e"), ("s", ""), ("es", ""), ("ied", "y"), ("ed", "e"), ("ed", ""),
                                ("ing", "e"), ("ing", ""), ("ly", "")):  # fmt: skip
            stem = word.removesuffix(ending) + instead
            if word.endswith(ending) and len(stem) > 2:
                for found in (stem, stem[:-1] if stem[-2:-1] == stem[-1] else stem):
                    if found in self.senses and ("n" in self.senses[found] or "v" in self.senses[found]):
                        return found
        return word


def _lines(path: Path) -> Iterable[str]:
    """Without the licence at the top."""
    with open(path, encoding="utf-8") as file:
        yield from (line for line in file if not line.startswith("  "))


def content_words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def nearness(
    net: WordNet, seeds: Mapping[str, Iterable[str]]
) -> tuple[dict[str, int], NDArray[np.float64], NDArray[np.float64]]:
    """How often walkers that start at the senses `seeds` of each effect are found at a word.

    Returns the row of each word, shares [words, effects], and the same for walkers that start anywhere [words].
    """
    synsets, count = len(net.members), len(net.members) + len(net.words)
    row = {word: synsets + number for number, word in enumerate(net.words)}
    step = _steps(net, row, count)
    start = np.zeros((count, len(seeds) + 1))
    for column, names in enumerate(seeds.values()):
        for name in names:
            start[net.sense(name), column] += 1
    start[:synsets, -1] = 1
    start /= start.sum(0)
    found = start
    for _ in range(ROUNDS):
        found = (1 - RESTART) * (step @ found)
        found += (1 - found.sum(0)) * start
    found = found[synsets:]
    return {word: number - synsets for word, number in row.items()}, found[:, :-1], found[:, -1]


def _steps(net: WordNet, row: Mapping[str, int], count: int) -> csr_matrix:
    """[to, from], the columns of which sum to one."""
    bases: dict[str, str] = {}
    glossed = []
    for gloss in net.glosses:
        found = {bases.setdefault(word, net.base(word)) for word in content_words(gloss)}
        glossed.append([row[word] for word in found if word in row])
    frequency = Counter(word for words in glossed for word in words)
    synsets = len(net.members)
    most = 3 + COMMON * synsets
    weight = {word: math.log(synsets / times) if times < most else 0.0 for word, times in frequency.items()}
    to_related, to_own_words, to_gloss_words, to_senses = [], [], [], []  # edges: from, to, weight
    for number, (names, others) in enumerate(zip(net.members, net.related, strict=True)):
        to_related += [(number, other, 1.0) for other in others]
        to_own_words += [(number, row[name], 1.0) for name in names if name in row]
        to_gloss_words += [(number, word, weight[word]) for word in glossed[number] if weight[word]]
    for word, parts in net.senses.items():
        to_senses += [
            (row[word], synset, 1 / (1 + rank)) for each in parts.values() for rank, synset in enumerate(each)
        ]
    to_glossed = [(word, number, 1.0) for number, word, _ in to_gloss_words]
    blocks = [(to_related, FROM_SYNSET[0]), (to_own_words, FROM_SYNSET[1]), (to_gloss_words, FROM_SYNSET[2]),
              (to_senses, FROM_WORD[0]), (to_glossed, FROM_WORD[1])]  # fmt: skip
    return _normalised(reduce(add, (share * _normalised(_matrix(edges, count)) for edges, share in blocks)))


def _matrix(edges: Sequence[tuple[int, int, float]], count: int) -> csr_matrix:
    start, end, weight = zip(*edges, strict=True)
    return csr_matrix((weight, (end, start)), shape=(count, count))


def _normalised(matrix: csr_matrix) -> csr_matrix:
    sums = np.asarray(matrix.sum(0)).ravel()
    return csr_matrix(matrix @ diags(np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)))
