"""Words that captions do not have: from a thesaurus in WordNet's format, and into a text encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from jointdit.errors import InputError
from jointdit.recipes.tiny.lexicon import NAMES, Lexicon, inflect, irregular_forms
from jointdit.recipes.tiny.other_things import OTHER_THINGS
from jointdit.recipes.tiny.prompts import Prompts
from jointdit.recipes.tiny.recipe import Architecture, Budget, WordStage
from jointdit.recipes.tiny.sentences import BENEFIT, NOTHING, SentenceTeacher
from jointdit.recipes.tiny.tokenizer import extend_tokenizer, train_tokenizer
from jointdit.recipes.tiny.wordnet import WordNet, content_words
from jointdit.recipes.tiny.words import (
    LabelledPrompts,
    WordObjective,
    draw_captions,
    enlarged,
    label_prompts,
    learn_words,
)
from jointdit.synthetic import EFFECTS

# (words, numbers of the hypernyms, gloss); the number of a synset is its place, and its offset as well.
NOUNS = (
    (("sound",), (), "what is heard"),
    (("bell",), (0,), "a hollow device of metal that rings"),
    (("gong", "tam-tam"), (1,), "a flat device of bronze"),
    (("carillon",), (1,), "a set of bells in a tower"),
    (("rain",), (0,), "water falling in drops"),
    (("downpour", "heavy_rain"), (4,), "much water"),
    (("Ben",), (1,), "one in London"),
    (("hail",), (4,), "falling ice"),
)
HEADER = "  1 This is the licence.\n"


@pytest.fixture
def folder(tmp_path):
    lines, index = [HEADER], {}
    for number, (names, hypernyms, gloss) in enumerate(NOUNS):
        pointers = [("@", other) for other in hypernyms]
        pointers += [("~", place) for place, row in enumerate(NOUNS) if number in row[1]]
        fields = [f"{number:08d}", "06", "n", f"{len(names):02x}", *(f"{name} 0" for name in names)]
        fields += [f"{len(pointers):03d}", *(f"{kind} {other:08d} n 0000" for kind, other in pointers)]
        lines.append(" ".join(fields) + f" | {gloss}  \n")
        for name in names:
            index.setdefault(name.lower(), []).append(f"{number:08d}")
    rows = [f"{name} n {len(at)} 1 @ {len(at)} 0 {' '.join(at)}  \n" for name, at in sorted(index.items())]
    for part in ("verb", "adj", "adv"):
        for kind in ("data", "index"):
            (tmp_path / f"{kind}.{part}").write_text(HEADER)
    (tmp_path / "data.noun").write_text("".join(lines))
    (tmp_path / "index.noun").write_text("".join([HEADER, *rows]))
    (tmp_path / "noun.exc").write_text("carilla carillon\n")
    return tmp_path


def test_a_thesaurus_is_read(folder):
    net = WordNet.load(folder)
    assert net.senses["heavy rain"] == {"n": [5]} and net.glosses[5] == "much water"
    assert net.names == {"ben"} and net.exceptions["n"] == {"carilla": "carillon"}


def test_a_missing_thesaurus_says_what_to_install(tmp_path):
    with pytest.raises(InputError, match="wordnet-base"):
        WordNet.load(tmp_path)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A sentence embedding model of the real kind, small and random: alike is what has the same words."""
    folder = tmp_path_factory.mktemp("sentences")
    captions, effects = draw_captions(200, 1)
    words = dict.fromkeys(content_words(" ".join([*captions, *OTHER_THINGS, "gong carillon downpour hail sound"])))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words) + 5, **size)).save_pretrained(folder)
    return SentenceTeacher(folder, captions, effects)


def test_a_teacher_tells_effects_and_other_things_apart(teacher):
    captions, effects = draw_captions(50, 1)
    right = [NAMES[label] == effect for label, effect in zip(teacher.labels(captions), effects, strict=True)]
    assert np.mean(right) > 0.8
    nearest = teacher.scores(OTHER_THINGS)[:, NOTHING]
    assert torch.allclose(nearest, torch.tensor(1 - BENEFIT), atol=1e-4), "each is among those that it is compared with"
    alone = torch.cat([teacher.scores([text]) for text in captions[:5]])
    assert torch.allclose(teacher.scores(captions)[:5], alone, atol=1e-5), "a text does not depend on its neighbours"


def test_a_folder_without_a_teacher_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match="all-MiniLM-L6-v2"):
        SentenceTeacher(tmp_path, [], [])


def test_each_word_belongs_to_one_effect_or_none_and_names_to_nothing(folder, teacher):
    settings = WordStage(senses=0)
    found = Lexicon.judged(WordNet.load(folder), teacher, settings).words
    words = [word for each in found.values() for word in each]
    assert sorted(words) == ["bell", "carillon", "downpour", "gong", "hail", "rain", "sound"]
    for name, each in found.items():
        assert set(teacher.labels([*each]) if each else ()) <= {NAMES.index(name)}


def test_words_take_their_endings(folder):
    forms = {("drip", "ing"): "dripping", ("cry", "ed"): "cried", ("cry", "s"): "cries", ("splash", "s"): "splashes",
             ("chime", "ing"): "chiming", ("pour down", "ed"): "poured down", ("toll", "ing"): "tolling"}  # fmt: skip
    assert {key: inflect(*key) for key in forms} == forms
    net = WordNet.load(folder)
    assert lexicon_of({None: {"carillon": "n"}}, net).inflect("carillon", "s") == "carilla"


def lexicon_of(words, net=None):
    return Lexicon(words, {name: [*each] for name, each in words.items()}, irregular_forms(net) if net else {})


def small_encoder(vocabulary: int) -> CLIPTextModel:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=24, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return CLIPTextModel(config).eval()


def test_more_tokens_leave_captions_as_they_were(tmp_path):
    captions, _ = draw_captions(300, 1)
    old = train_tokenizer(captions, Architecture(), tmp_path / "old")
    new = extend_tokenizer(old, {"cloudburst": 1.0, "carillon": 2.0}, captions, 12, tmp_path / "new")
    assert len(new) == len(old) + 12
    assert [old(text).input_ids for text in captions] == [new(text).input_ids for text in captions]
    assert len(new.tokenize("carillon")) < len(old.tokenize("carillon"))
    encoder = small_encoder(len(old))
    ids = torch.tensor([new(captions[0]).input_ids])
    assert torch.equal(enlarged(encoder, len(new), 3)(ids).last_hidden_state, encoder(ids).last_hidden_state)


MADE_UP = {effect: f"{'zyxwvutsrq'[number]}{'aeiou'[number % 5]}p" for number, effect in enumerate(EFFECTS)}
PROMPTS = LabelledPrompts([*MADE_UP.values(), "thing", "a thing", "this"], np.array([*range(NOTHING), *[NOTHING] * 3]))


def test_a_student_learns_words_and_keeps_captions(tiny):
    tokenizer = CLIPTokenizer.from_pretrained(tiny / "tokenizer")
    teacher = CLIPTextModel.from_pretrained(tiny / "text_encoder", dtype=torch.float32)
    student = enlarged(teacher, len(tokenizer), 3)
    settings = WordStage(captions=300, captions_per_step=8, prompts_per_step=24)
    objective = WordObjective(settings, teacher, student, tokenizer, PROMPTS, PROMPTS)
    assert objective.evaluate()["captions"] == 0
    optimizer = torch.optim.Adam(student.parameters(), 2e-3)
    for step in range(120):
        optimizer.zero_grad()
        objective.loss(torch.Generator().manual_seed(step), 0.0).backward()
        optimizer.step()
    found = objective.evaluate()
    assert found["effects"] >= 0.6 and found["nothing"] == 1 and found["captions"] < 0.1 * found["captions_spread"]
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_what_was_learned_is_saved_with_its_tokenizer(tmp_path):
    lexicon = lexicon_of({effect: {word: "n"} for effect, word in MADE_UP.items()})
    tokenizer = train_tokenizer(draw_captions(100, 1)[0], Architecture(), tmp_path / "tokenizer")
    settings = WordStage(
        budget=Budget(steps=1), captions=100, captions_per_step=4, prompts_per_step=4, more_tokens=5, held_out=2
    )
    encoder = small_encoder(len(tokenizer))
    learned = learn_words(encoder, tokenizer, lexicon, PROMPTS, settings, tmp_path / "words")
    loaded = CLIPTextModel.from_pretrained(tmp_path / "words" / "text_encoder")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in learned.state_dict().items())
    assert len(CLIPTokenizer.from_pretrained(tmp_path / "words" / "tokenizer")) == len(tokenizer) + 5
    assert loaded.config.vocab_size == len(tokenizer) + 5 and loaded.config.num_hidden_layers == 3


def test_prompts_are_of_their_effects_words_and_labelled_as_a_whole(teacher):
    words = {name: {"table": "n", "go": "v"} for name in NAMES} | {"bell": {"gong": "n", "carillon": "n"}}
    prompts = Prompts(lexicon_of(words), near_shares=(1.0, 0.7, 0.4), from_glosses=0.15)
    rng = np.random.default_rng(0)
    for _ in range(200):
        text = prompts.draw(rng, "bell")
        assert any(word in text for word in ("gong", "carillon")), text
        assert not any(word in prompts.draw(rng, None) for word in ("gong", "carillon"))
    labelled = label_prompts(lexicon_of(words), teacher, WordStage(prompts=50))
    assert len(labelled.texts) == len(set(labelled.texts)) == len(labelled.labels)
    assert (teacher.labels(labelled.texts[:5]) == labelled.labels[:5]).all()


def test_unseen_words_keep_all_their_letters(tmp_path):
    tokenizer = train_tokenizer(["a ball bounces", "rain falls"], Architecture(), tmp_path)
    ids = tokenizer("Zebra crossing?", padding="max_length", max_length=24).input_ids
    assert len(ids) == 24 and tokenizer.decode(ids, skip_special_tokens=True).strip() == "zebra crossing ?"
