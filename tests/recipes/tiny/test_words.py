"""Words that captions do not have: from a thesaurus in WordNet's format, and into a text encoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from jointdit.errors import InputError
from jointdit.evaluate.prompts import UNSEEN_WORDS
from jointdit.recipes.tiny.lexicon import Lexicon, inflect
from jointdit.recipes.tiny.prompts import Prompts
from jointdit.recipes.tiny.recipe import Architecture, Budget, WordStage
from jointdit.recipes.tiny.tokenizer import extend_tokenizer, train_tokenizer
from jointdit.recipes.tiny.wordnet import SENSES, WordNet, content_words, nearness
from jointdit.recipes.tiny.words import WordObjective, draw_captions, enlarged, learn_words
from jointdit.synthetic import EFFECTS
from jointdit.synthetic.captions import SYNONYMS, TEMPLATES

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
    assert net.sense("heavy_rain.n.1") == 5 and net.members[5] == ("downpour", "heavy rain")
    assert net.related[4] == (0, 5, 7) and net.glosses[7] == "falling ice"
    assert net.names == {"ben"}
    assert [net.base(word) for word in ("gongs", "carilla", "hails", "unknown")] == [
        "gong",
        "carillon",
        "hail",
        "unknown",
    ]


def test_a_missing_thesaurus_says_what_to_install(tmp_path):
    with pytest.raises(InputError, match="wordnet-base"):
        WordNet.load(tmp_path)


def test_walkers_find_relatives_of_where_they_start(folder):
    row, found, anywhere = nearness(WordNet.load(folder), {"bell": ["bell.n.1"], "rain": ["rain.n.1"]})
    assert (found.sum(0) < 1).all() and (anywhere > 0).all()
    for word, effect in (("gong", 0), ("carillon", 0), ("tam-tam", 0), ("downpour", 1), ("heavy rain", 1), ("hail", 1)):
        assert found[row[word], effect] > 3 * found[row[word], 1 - effect], word


def lexicon(folder) -> Lexicon:
    return Lexicon.near(WordNet.load(folder), {"bell": ["bell.n.1"], "rain": ["rain.n.1"]}, WordStage(near=0.0))


def test_each_effect_gets_its_own_words_and_no_names(folder):
    found = lexicon(folder).words
    assert {"bell", "gong", "carillon"} <= set(found["bell"]) and {"rain", "downpour", "hail"} <= set(found["rain"])
    assert not set(found["bell"]) & set(found["rain"]) and "ben" not in found["bell"]
    known, held_out = lexicon(folder).split(0.5, np.random.default_rng(0))
    for effect, each in found.items():
        assert set(each) == set(known.words[effect]) | set(held_out.words[effect])


def test_words_take_their_endings(folder):
    forms = {("drip", "ing"): "dripping", ("cry", "ed"): "cried", ("cry", "s"): "cries", ("splash", "s"): "splashes",
             ("chime", "ing"): "chiming", ("pour down", "ed"): "poured down", ("toll", "ing"): "tolling"}  # fmt: skip
    assert {key: inflect(*key) for key in forms} == forms
    assert lexicon(folder).inflect("carillon", "s") == "carilla"


def test_no_sense_is_of_a_word_that_captions_do_not_have():
    """The words that judge a model must not decide what it learns."""
    captions = " ".join(word for each in (*TEMPLATES.values(), *SYNONYMS.values()) for word in each)
    said = set(content_words(captions))
    for names in SENSES.values():
        for name in names.split():
            for part in name.split(".")[0].split("_"):
                assert any(word.startswith(part[: max(3, len(part) - 1)]) for word in said), name
    assert set(SENSES) == set(EFFECTS) == set(UNSEEN_WORDS)


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


def test_a_student_learns_words_and_keeps_captions(tiny):
    near = {effect: {f"{'zyxwvutsrq'[number]}{'aeiou'[number % 5]}p": "n"} for number, effect in enumerate(EFFECTS)}
    lexicon = Lexicon(near, {effect: [*each] for effect, each in near.items()}, {"thing": "nv"}, {})
    tokenizer = CLIPTokenizer.from_pretrained(tiny / "tokenizer")
    teacher = CLIPTextModel.from_pretrained(tiny / "text_encoder", dtype=torch.float32)
    student = enlarged(teacher, len(tokenizer), 3)
    settings = WordStage(captions=300, captions_per_step=8, prompts_per_step=24)
    objective = WordObjective(settings, teacher, student, tokenizer, lexicon)
    assert objective.evaluate()["captions"] == 0
    optimizer = torch.optim.Adam(student.parameters(), 2e-3)
    for step in range(120):
        optimizer.zero_grad()
        objective.loss(torch.Generator().manual_seed(step), 0.0).backward()
        optimizer.step()
    found = objective.evaluate()
    assert found["known"] >= 0.6 and found["captions"] < 0.1 * found["captions_spread"]
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_what_was_learned_is_saved_with_its_tokenizer(tmp_path):
    near = {effect: {"zyxwvutsrq"[number] + "ap": "n"} for number, effect in enumerate(EFFECTS)}
    lexicon = Lexicon(near, {effect: [*each] for effect, each in near.items()}, {"thing": "nv"}, {})
    tokenizer = train_tokenizer(draw_captions(100, 1)[0], Architecture(), tmp_path / "tokenizer")
    settings = WordStage(
        budget=Budget(steps=1), captions=100, captions_per_step=4, prompts_per_step=4, more_tokens=5, held_out=0.5
    )
    learned = learn_words(small_encoder(len(tokenizer)), tokenizer, lexicon, settings, tmp_path / "words")
    loaded = CLIPTextModel.from_pretrained(tmp_path / "words" / "text_encoder")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in learned.state_dict().items())
    assert len(CLIPTokenizer.from_pretrained(tmp_path / "words" / "tokenizer")) == len(tokenizer) + 5
    assert loaded.config.vocab_size == len(tokenizer) + 5 and loaded.config.num_hidden_layers == 3


def test_a_prompt_always_has_a_word_of_its_effect(folder):
    found = lexicon(folder)
    found = replace(found, others={"table": "n", "go": "v"}, glosses={"bell": ["bell"]})
    prompts = Prompts(found, near_shares=(1.0, 0.7, 0.4), from_glosses=0.15)
    rng = np.random.default_rng(0)
    for _ in range(200):
        text = prompts.draw(rng, "bell")
        assert any(word in text for word in ("carill", *found.words["bell"])), text


def test_unseen_words_keep_all_their_letters(tmp_path):
    tokenizer = train_tokenizer(["a ball bounces", "rain falls"], Architecture(), tmp_path)
    ids = tokenizer("Zebra crossing?", padding="max_length", max_length=24).input_ids
    assert len(ids) == 24 and tokenizer.decode(ids, skip_special_tokens=True).strip() == "zebra crossing ?"
