"""The nodes, thin over the library. Here are their widgets and sockets, a file for each step of a clip; what they do,
with device policy and progress, is in `work`.

All of this is imported at ComfyUI's start, so it imports nothing that ComfyUI has not imported by then; `execute`
imports its function from `work`.
"""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from . import folders, places
from .cache import CacheLatents
from .condition import Condition
from .decode import DecodeAudio, DecodeVideo
from .guidance import Guidance
from .load import LoadExperts, LoadModel
from .mux import Mux
from .report import SyncReport
from .retake import Retake
from .sample import Sample
from .train import Train

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    LoadExperts,
    Condition,
    Guidance,
    Sample,
    DecodeVideo,
    DecodeAudio,
    Mux,
    CacheLatents,
    Train,
    SyncReport,
    Retake,
]

folders.register()
places.give_examples()
