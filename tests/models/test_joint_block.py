"""Positions of the Joint Blocks: seconds on one clock."""

from __future__ import annotations

import torch

from jointdit.models.joint_block import RotaryEmbedding, audio_positions, rotate, video_positions

HEAD = 32


def score(query_position: list[float], key_position: list[float]) -> float:
    rotary = RotaryEmbedding(HEAD)
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 1, 1, HEAD, generator=generator) for _ in range(2))
    turned = [
        rotate(x, rotary(torch.tensor(p).reshape(1, 1, 4))) for x, p in ((query, query_position), (key, key_position))
    ]
    return (turned[0] * turned[1]).sum().item()


def test_scores_depend_on_differences_of_time_alone():
    base = score([0.3, 2, 5, 0], [0.1, 0, 0, 7])
    for shift in (0.04, 0.5, 1.3):
        assert abs(score([0.3 + shift, 2, 5, 0], [0.1 + shift, 0, 0, 7]) - base) < 1e-4
    assert abs(score([0.4, 2, 5, 0], [0.1, 0, 0, 7]) - base) > 1e-2


def test_one_frame_turns_the_fastest_pair_enough_to_tell_frames_apart():
    cosine, sine = RotaryEmbedding(HEAD)(torch.tensor([[[1 / 24, 0, 0, 0]]]))
    assert torch.atan2(sine, cosine).abs().max() > 1.0


def test_video_and_audio_stand_on_one_clock():
    video = video_positions(torch.tensor([12.5, 25.0]), frames=4, height=1, width=1, level=1)
    audio = audio_positions(2, rate=25.0, length=4, bins=1, level=1, device=torch.device("cpu"))
    torch.testing.assert_close(video[0], audio[0])  # 80 ms a frame, 2 latents of 40 ms a token
    torch.testing.assert_close(video[1, :, 0] * 2, audio[1, :, 0])


def test_a_deeper_token_stands_on_the_latent_that_centres_it():
    positions = video_positions(torch.tensor([10.0]), frames=1, height=2, width=3, level=2)
    assert positions[0, :, 1].tolist() == [0, 0, 0, 4, 4, 4]
    assert positions[0, :, 2].tolist() == [0, 4, 8, 0, 4, 8]
    audio = audio_positions(1, rate=25.0, length=2, bins=2, level=3, device=torch.device("cpu"))
    assert audio[0, :, 0].tolist() == [0, 0, torch.tensor(8 / 25.0).item(), torch.tensor(8 / 25.0).item()]
    assert audio[0, :, 3].tolist() == [0, 8, 0, 8]
