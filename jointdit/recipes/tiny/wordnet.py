"""The words of English with their parts of speech, definitions and irregular forms.

WordNet 3.0 (Debian: wordnet-base) is read as it is installed; its file formats are described in wndb(5WN).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}


@dataclass(frozen=True)
class WordNet:
    """Words in lower case, with spaces, and synsets by number.

    senses: of each word, synsets by part of speech, the most frequent first.    glosses: text of each synset.
    exceptions: irregular forms of words by part of speech.    names: words that are always capitalised.
    """

    senses: Mapping[str, Mapping[str, Sequence[int]]]
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
        glosses: list[str] = []
        spellings: set[str] = set()
        for part in PARTS:
            for line in _lines(folder / f"data.{part}"):
                fields, gloss = line.split(" | ", 1)
                fields = fields.split()
                count = int(fields[3], 16)
                names = [re.sub(r"\(\w+\)$", "", name) for name in fields[4 : 4 + 2 * count : 2]]
                numbers[PARTS[part], fields[0]] = len(glosses)
                spellings.update(name.replace("_", " ") for name in names)
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
            senses=senses,
            glosses=tuple(glosses),
            exceptions=exceptions,
            names=frozenset(word for word in senses if word not in spellings),
        )


def _lines(path: Path) -> Iterable[str]:
    """Without the licence at the top."""
    with open(path, encoding="utf-8") as file:
        yield from (line for line in file if not line.startswith("  "))


def content_words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())
