"""The nodes, thin over the library: widgets, sockets, device policy and progress. Each file is one step of a clip."""

from __future__ import annotations

from comfy_api.latest import io

from . import folders, places
from .cache import CacheLatents
from .condition import Condition
from .decode import DecodeAudio, DecodeVideo
from .guidance import Guidance
from .load import LoadExperts, LoadModel
from .mux import Mux
from .report import SyncReport
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
]

folders.register()
places.give_examples()
