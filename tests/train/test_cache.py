"""What decides the contents of a latent cache."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from tiny_models import SHAPE, write_experts
from transformers import RobertaTokenizer, T5Tokenizer

from jointdit import JointDiTPipeline
from jointdit.train.cache import Encoding


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    return write_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture
def pipe(experts):
    return JointDiTPipeline.from_experts(*experts)


def weights(pipe: JointDiTPipeline) -> str:
    return Encoding.of(pipe, pipe.shape(**SHAPE)).weights


def another_projection(pipe: JointDiTPipeline) -> None:
    with torch.no_grad():
        pipe.projection_model.projection.weight[0, 0] += 1


def another_vocabulary(pipe: JointDiTPipeline) -> None:
    names = sorted(pipe.tokenizer.get_vocab(), key=pipe.tokenizer.get_vocab().get)
    vocabulary = {name: index for index, name in enumerate([*names[:5], *reversed(names[5:])])}
    pipe.tokenizer = RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def another_length(pipe: JointDiTPipeline) -> None:
    pipe.tokenizer = RobertaTokenizer(vocab=pipe.tokenizer.get_vocab(), merges=[], model_max_length=76)


def other_pieces(pipe: JointDiTPipeline) -> None:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)] + [(chr(c), -2.0) for c in range(98, 123)]
    pipe.tokenizer_2 = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=16)


def another_mean(pipe: JointDiTPipeline) -> None:
    pipe.feature_extractor = copy.copy(pipe.feature_extractor)
    pipe.feature_extractor.image_mean = [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    "change",
    [another_projection, another_vocabulary, another_length, other_pieces, another_mean],
    ids=lambda f: f.__name__,
)
def test_other_encoders_make_another_cache(pipe, change: Callable[[JointDiTPipeline], None]):
    before = weights(pipe)
    change(pipe)
    assert weights(pipe) != before


def test_the_same_encoders_make_the_same_cache_before_and_after_their_use(pipe, experts):
    before = weights(pipe)
    with torch.no_grad():
        pipe.encode_text(["a dog barks, loud", ""])
    assert weights(pipe) == before == weights(JointDiTPipeline.from_experts(*experts))
