"""The tokenizer of the bundled model: learned from captions, later extended by the words that captions do not have."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from ...media.files import whole_file
from .recipe import Architecture


def train_tokenizer(captions: Iterable[str], architecture: Architecture, folder: Path) -> CLIPTokenizer:
    """Byte-level BPE in CLIP's manner, learned from `captions`, saved in `folder` and loaded from there."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=architecture.vocabulary,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    # Every byte must also exist as a word's last one, or unseen words would lose it.
    known = ["<|startoftext|>", "<|endoftext|>", *sorted(alphabet), *(byte + "</w>" for byte in sorted(alphabet))]
    learned = [token for token in model["vocab"] if token not in set(known)]
    vocabulary = {token: index for index, token in enumerate(known + learned)}
    return save_tokenizer(vocabulary, model["merges"], architecture.text_length, folder)


def save_tokenizer(
    vocabulary: Mapping[str, int], merges: Iterable[Sequence[str]], length: int, folder: Path
) -> CLIPTokenizer:
    """A tokenizer of these tokens and merges, for texts of at most `length` tokens, saved in `folder` and loaded from
    there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    CLIPTokenizer.from_pretrained(folder, model_max_length=length).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def write_text(path: Path, text: str) -> None:
    """The whole file or none."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    weight: defaultdict[tuple[str, str], float] = defaultdict(float)

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
    return save_tokenizer(vocabulary, merges, tokenizer.model_max_length, folder)


def _merged(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """The pieces with each occurrence of a pair, from the left, as one."""
    found: list[str] = []
    for piece in pieces:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return tuple(found)
