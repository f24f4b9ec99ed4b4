"""Speed settings: the plain path's numbers, and no graph compiled twice."""

from __future__ import annotations

import pytest
import torch
from gaussian_model import clock
from tiny_models import LATENT, assert_close, conditioning, inputs, joint_model

from jointdit import InputError, Reuse
from jointdit.diffusion.denoiser import JointDenoiser, Pass
from jointdit.latents import JointLatents
from jointdit.models.experts.attention import SingleTokenAttention, shorten_cross_attention
from jointdit.runtime.speed import Speed, graphs_compiled, set_speed

CPU = torch.device("cpu")


def evaluate(model, batch: int = 2, isolated=(False, True)):
    return model(*inputs(batch), conditioning(batch), isolated=torch.tensor(isolated))


@torch.no_grad()
def test_attention_to_one_token_is_short_and_exact():
    model = joint_model(open_gates=True)
    plain = evaluate(model)
    shorten_cross_attention(model.video_unet)
    queries = [module.to_q for name, module in model.video_unet.named_modules() if name.endswith("attn2")]
    calls = []
    for query in queries:
        query.register_forward_pre_hook(lambda *_: calls.append(1))
    assert_close(evaluate(model), plain)
    assert queries and not calls


def test_in_training_every_weight_of_the_short_attention_has_a_gradient():
    model = joint_model(open_gates=True)
    gradients = []
    for _ in range(2):
        model.zero_grad()
        out = evaluate(model)
        (out.video.square().sum() + out.audio.square().sum()).backward()
        gradients.append({name: weight.grad.clone() for name, weight in model.video_unet.named_parameters()})
        shorten_cross_attention(model.video_unet)
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name


@torch.no_grad()
def test_several_tokens_are_attended_to_as_ever():
    model = joint_model()
    attention = model.video_unet.mid_block.attentions[0].transformer_blocks[0].attn2
    hidden, context = torch.randn(2, 5, attention.to_q.in_features), torch.randn(2, 3, attention.to_k.in_features)
    plain = attention(hidden, context)
    attention.set_processor(SingleTokenAttention())
    assert torch.equal(attention(hidden, context), plain)


@torch.no_grad()
def test_channels_last_changes_no_number_and_is_undone():
    model = joint_model(open_gates=True)
    plain = evaluate(model)
    set_speed(model, Speed(channels_last=True), CPU)
    assert model.video_unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert_close(evaluate(model), plain)
    set_speed(model, Speed(), CPU)
    assert torch.equal(evaluate(model).video, plain.video)


@torch.no_grad()
def test_compiled_blocks_give_the_same_numbers_and_are_compiled_once():
    model = joint_model(open_gates=True)
    plain = evaluate(model)
    set_speed(model, Speed(compile="eager"), CPU)  # every part of torch.compile but its code generation
    assert model.compiled == {"backend": "eager", "dynamic": False}
    before = graphs_compiled()
    assert_close(evaluate(model), plain)
    first = graphs_compiled()
    assert first > before
    for _ in range(2):
        assert_close(evaluate(model), plain)
    assert graphs_compiled() == first, "the same shapes need no other graph"
    set_speed(model, Speed(), CPU)
    assert torch.equal(evaluate(model).audio, plain.audio) and graphs_compiled() == first


@torch.no_grad()
def test_parts_of_blocks_are_compiled_as_the_blocks_are_and_once_for_all_runs():
    model, cond = joint_model(open_gates=True), conditioning(2)
    x = JointLatents(torch.randn(2, 3, LATENT, 8, 8), torch.randn(2, LATENT, 12, 16))
    levels = clock().levels(*(torch.tensor([value], dtype=torch.float64) for value in (1.5, 400)))

    def evaluate_twice():
        joint = JointDenoiser(model, clock(), reuse=Reuse(2, layers=1))
        return [joint.denoise(x, levels, [Pass(cond)])[0][0] for _ in range(2)]

    torch.compiler.reset()  # or graphs of other tests are taken
    plain, before = evaluate_twice(), graphs_compiled()
    model.compiled = {"backend": "eager", "dynamic": False}  # the parts alone, which takes less time
    for ours, theirs in zip(evaluate_twice(), plain, strict=True):
        assert_close(ours, theirs)
    first = graphs_compiled()
    assert first - before == 3, "the rest of In, and both parts of the last block"
    evaluate_twice()
    assert graphs_compiled() == first, "a new run has the same parts"


def test_a_stream_needs_cuda():
    with pytest.raises(InputError, match="only CUDA has streams"):
        set_speed(joint_model(), Speed(audio_stream=True), CPU)
