"""The two pretrained UNets, cut at their own block boundaries into In, Experts and Out.

The cut is data, not subclassing: `VideoExpert` and `AudioExpert` hold diffusers' whole modules and run their blocks in
turn. Stage 0 is In (`conv_in`, `down_blocks[0]`), stages 1 .. n are the experts (`down_blocks[1:]`, then `mid_block`),
and `finish` is Out (`up_blocks`, `conv_norm_out`, `conv_out`). Running all of them is the UNet's own forward, bit for
bit.
"""

from .audio import AudioExpert
from .state import Call, ExpertState, call_directly, expand_timestep
from .video import VideoCut, VideoExpert

__all__ = ["AudioExpert", "Call", "ExpertState", "VideoCut", "VideoExpert", "call_directly", "expand_timestep"]
