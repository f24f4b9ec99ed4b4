"""Joint Blocks that have learned nothing, in place of a file."""

from __future__ import annotations

import pytest
import torch
from tiny_models import write_experts

from jointdit import JointDiTPipeline
from jointdit.cli import main
from jointdit.errors import InputError
from jointdit.models.joint_start import start_joint_blocks


def test_the_identity_makes_each_expert_work_alone():
    pipe = JointDiTPipeline.from_pretrained("tiny", joint="identity")
    blocks = pipe.joint_blocks.blocks
    assert all((branch.modulation.weight == 0).all() for block in blocks for branch in (block.video, block.audio))
    own = JointDiTPipeline.from_pretrained("tiny")
    assert own.joint_blocks.blocks[0].video.modulation.weight.abs().max() > 0


def test_a_start_follows_from_its_seed():
    pipe = JointDiTPipeline.from_pretrained("tiny", joint="identity")
    torch.manual_seed(5)
    again = JointDiTPipeline.from_pretrained("tiny", joint="identity")
    first, second = pipe.joint_blocks.state_dict(), again.joint_blocks.state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    start_joint_blocks(again.joint_blocks, seed=1)
    assert any(not torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_experts_take_the_identity_by_name(tmp_path):
    video, audio = write_experts(tmp_path)
    named, left_out = (JointDiTPipeline.from_experts(video, audio, joint).joint_blocks for joint in ("identity", None))
    assert all(torch.equal(tensor, left_out.state_dict()[name]) for name, tensor in named.state_dict().items())


def test_a_whole_model_is_no_expert_and_the_message_says_what_to_do(tmp_path, capsys):
    with pytest.raises(InputError, match="a whole JointDiT model, not an expert.*joint = identity"):
        JointDiTPipeline.from_experts("tiny", "tiny")
    command = ["generate", "--video-expert", "tiny", "--audio-expert", "tiny", "-o", str(tmp_path / "clip.mp4")]
    assert main(command) == 2
    assert "not an expert" in capsys.readouterr().err
