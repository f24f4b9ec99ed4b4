"""The joint model: untrained it is both UNets; trained, its modalities see each other exactly when they should."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from tiny_models import conditioning, inputs, joint_model

from jointdit.errors import InputError
from jointdit.latents import JointLatents
from jointdit.models.experts import AudioExpert, VideoExpert
from jointdit.models.experts.temporal import TemporalConv3d, flatten_temporal_convolutions
from jointdit.models.joint_block import JointBlocks
from jointdit.models.model import Conditioning, JointDiTModel


def uncut(model, video, sound, c_noise, timestep, cond: Conditioning) -> JointLatents:
    """Both UNets by their own forward."""
    return JointLatents(
        model.video_unet(video, c_noise, cond.video_embeds, cond.added_time_ids).sample,
        model.audio_unet(
            sound,
            timestep,
            cond.audio_embeds,
            encoder_hidden_states_1=cond.audio_embeds_1,
            encoder_attention_mask_1=cond.audio_mask_1,
        ).sample,
    )


@pytest.mark.parametrize(("size", "audio"), [((8, 8), (12, 16)), ((9, 13), (13, 16)), ((6, 11), (27, 6))])
@torch.no_grad()
def test_untrained_model_is_both_unets_bit_for_bit(size, audio):
    model, (video, sound, c_noise, timestep) = joint_model(), inputs(size=size, audio=audio)
    cond = conditioning(2)
    for isolated in (False, True):
        ours = model(video, sound, c_noise, timestep, cond, isolated=isolated)
        theirs = uncut(model, video, sound, c_noise, timestep, cond)
        assert torch.equal(ours.video, theirs.video) and torch.equal(ours.audio, theirs.audio)


@torch.no_grad()
def test_scalar_timesteps_and_other_batches_agree():
    model, (video, sound, _, _) = joint_model(open_gates=True), inputs()
    cond = conditioning(2)
    whole = model(video, sound, 0.5, 300, cond)
    for row in range(2):
        index = torch.tensor([row])
        alone = model(video[index], sound[index], torch.tensor([0.5]), torch.tensor([300]), cond.select(index))
        torch.testing.assert_close(alone.video, whole.video[index], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.audio, whole.audio[index], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("unet", ["video_unet", "audio_unet"])
@torch.no_grad()
def test_the_experts_really_run(unet):
    model, (video, sound, c_noise, timestep) = joint_model(), inputs()
    before = model(video, sound, c_noise, timestep, conditioning(2))
    for parameter in getattr(model, unet).mid_block.parameters():
        parameter.zero_()
    after = model(video, sound, c_noise, timestep, conditioning(2))
    changed = "video" if unet == "video_unet" else "audio"
    other = "audio" if changed == "video" else "video"
    assert (getattr(after, changed) - getattr(before, changed)).abs().max() > 1e-3
    assert torch.equal(getattr(after, other), getattr(before, other))


def cross_gradients(isolated: bool) -> tuple[float, float]:
    model, (video, sound, c_noise, timestep) = joint_model(open_gates=True), inputs()
    video.requires_grad_(), sound.requires_grad_()
    out = model(video, sound, c_noise, timestep, conditioning(2), isolated=isolated)
    to_sound = torch.autograd.grad(out.video.square().sum(), sound, retain_graph=True, allow_unused=True)[0]
    to_video = torch.autograd.grad(out.audio.square().sum(), video, allow_unused=True)[0]
    return tuple(0.0 if g is None else g.abs().max().item() for g in (to_sound, to_video))


def test_isolated_samples_do_not_see_the_other_modality_and_full_ones_do():
    assert cross_gradients(isolated=True) == (0.0, 0.0)
    assert min(cross_gradients(isolated=False)) > 0


def test_gradient_reaches_the_gate_of_an_untrained_block_first():
    model, (video, sound, c_noise, timestep) = joint_model(), inputs()
    out = model(video, sound, c_noise, timestep, conditioning(2))
    (out.video.square().mean() + out.audio.square().mean()).backward()
    for block in model.joint_blocks.blocks:
        for branch in (block.video, block.audio):
            gate = branch.modulation.weight.grad[-branch.channels :]
            assert gate.abs().max() > 0


@torch.no_grad()
def test_full_and_isolated_samples_in_one_batch_equal_each_alone():
    model, (video, sound, c_noise, timestep) = joint_model(open_gates=True), inputs()
    cond, index = conditioning(2), torch.tensor([0, 0, 1, 1])
    isolated = torch.tensor([False, True, True, False])
    args = (video[index], sound[index], c_noise[index], timestep[index], cond.select(index))
    mixed = model(*args, isolated=isolated)
    for flag in (False, True):
        same = model(*args, isolated=flag)
        rows = isolated == flag
        torch.testing.assert_close(mixed.video[rows], same.video[rows], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mixed.audio[rows], same.audio[rows], atol=1e-5, rtol=1e-5)
    assert (mixed.audio[0] - mixed.audio[1]).abs().max() > 1e-3


@torch.no_grad()
def test_passes_that_share_in_give_the_plain_numbers():
    model, (video, sound, c_noise, timestep) = joint_model(open_gates=True), inputs()
    cond = conditioning(2)
    stem = model.stem(video, sound, c_noise, timestep, cond).select(torch.tensor([0, 1, 0, 1]))
    shared, _ = model.trunk(stem, torch.tensor([False, False, True, True]))
    for rows, flag in ((slice(0, 2), False), (slice(2, 4), True)):
        plain = model(video, sound, c_noise, timestep, cond, isolated=flag)
        torch.testing.assert_close(shared.video[rows], plain.video, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(shared.audio[rows], plain.audio, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_audio_alone_on_kept_video_tokens_equals_the_joint_evaluation():
    model, (video, sound, c_noise, timestep) = joint_model(open_gates=True), inputs()
    cond, isolated = conditioning(2), torch.tensor([False, True])
    joint, kept = model.trunk(model.stem(video, sound, c_noise, timestep, cond), isolated, keep=True)
    audio = model.audio_only(sound, timestep, cond, kept, isolated)
    torch.testing.assert_close(audio, joint.audio, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_query_chunks_are_exact_and_pooling_is_close():
    model, (video, sound, c_noise, timestep) = joint_model(open_gates=True), inputs(size=(9, 13))
    cond = conditioning(2)
    plain = model(video, sound, c_noise, timestep, cond)
    model.joint_blocks.set_memory(query_chunk=7)
    chunked = model(video, sound, c_noise, timestep, cond)
    torch.testing.assert_close(chunked.video, plain.video, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(chunked.audio, plain.audio, atol=1e-5, rtol=1e-5)
    model.joint_blocks.set_memory(video_pool=2)
    pooled = model(video, sound, c_noise, timestep, cond)
    model.joint_blocks.set_memory(video_pool=1)
    assert torch.equal(model(video, sound, c_noise, timestep, cond).audio, plain.audio)
    error = (pooled.audio - plain.audio).norm() / plain.audio.norm()
    assert 0 < error < 0.1, f"pooling by 2 changes the audio prediction by {error:.3f}"


@torch.no_grad()
def test_blocks_that_were_trained_with_pooling_keep_it(tmp_path):
    model, (video, sound, c_noise, timestep) = joint_model(open_gates=True), inputs(size=(9, 13))
    cond = conditioning(2)
    model.joint_blocks.set_memory(video_pool=2)
    by_lever = model(video, sound, c_noise, timestep, cond)
    own = {name: value for name, value in model.joint_blocks.config.items() if not name.startswith("_")}
    blocks = JointBlocks(**own | {"video_pools": [2, 2, 2, 2]})
    blocks.load_state_dict(model.joint_blocks.state_dict())
    blocks.save_pretrained(tmp_path)
    trained = JointDiTModel(model.video_unet, model.audio_unet, JointBlocks.from_pretrained(tmp_path)).eval()
    for _ in range(2):
        found = trained(video, sound, c_noise, timestep, cond)
        assert torch.equal(found.video, by_lever.video) and torch.equal(found.audio, by_lever.audio)
        trained.joint_blocks.set_memory()  # a lever at rest changes nothing
    trained.joint_blocks.set_memory(video_pool=2)
    assert {block.video_pool for block in trained.joint_blocks.blocks} == {4}
    with pytest.raises(InputError, match="video_pools"):
        JointBlocks(**own | {"video_pools": [2]})


def test_levers_reject_nonsense():
    blocks = joint_model().joint_blocks
    with pytest.raises(InputError, match="query_chunk 0"):
        blocks.set_memory(query_chunk=0)
    with pytest.raises(InputError, match="video_pool 0"):
        blocks.set_memory(video_pool=0)


@torch.no_grad()
def test_stages_track_the_level_of_their_tokens():
    model, (video, _, c_noise, _) = joint_model(), inputs(size=(8, 8))
    cond = conditioning(2)
    expert = VideoExpert(model.video_unet)
    state = expert.start(video, c_noise, cond.video_embeds, cond.added_time_ids)
    levels = [state.level]
    for stage in range(1, expert.stages):
        state = expert.run(state, stage)
        levels.append(state.level)
        assert state.hidden.shape[-1] == 8 // 2**state.level
    assert levels == [1, 2, 2, 2]
    tokens = rearrange(state.hidden, "(b f) c h w -> b (f h w) c", f=state.rows)
    assert tokens.shape == (2, 3 * 2 * 2, 64)
    assert AudioExpert(model.audio_unet).stages == expert.stages


@torch.no_grad()
def test_temporal_convolutions_may_run_as_flat_ones():
    model, (video, sound, c_noise, timestep) = joint_model(), inputs()
    cond, names = conditioning(2), list(model.state_dict())
    before = model(video, sound, c_noise, timestep, cond)
    flatten_temporal_convolutions(model.video_unet)
    assert sum(type(child) is TemporalConv3d for child in model.modules()) > 0
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(video, sound, c_noise, timestep, cond).video, before.video, atol=1e-5, rtol=1e-5)


def test_autocast_leaves_the_audio_expert_in_full_precision():
    """Rounded epsilons, times the sigma of strong noise, would hide what the clean estimate has to learn."""
    model = joint_model()  # the Joint Blocks change nothing
    with torch.no_grad():
        whole = model(*inputs(), conditioning())
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(*inputs(), conditioning())
    torch.testing.assert_close(rounded.audio, whole.audio, atol=1e-5, rtol=1e-5)
    assert not torch.equal(rounded.video.float(), whole.video), "the video expert is the one that costs"


def test_autocast_still_reaches_an_audio_expert_that_is_kept_in_lower_precision():
    """As ComfyUI loads it to save memory: without autocast its inputs would have another type than its weights."""
    model = joint_model()
    model.audio_unet.to(torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model(*inputs(), conditioning()).audio.isfinite().all()
