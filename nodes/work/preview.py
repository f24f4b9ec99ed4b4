"""What a clip looks and sounds like while it is sampled."""

from __future__ import annotations

from fractions import Fraction

from server import PromptServer

from ...jointdit.latents import JointLatents
from ...jointdit.pipeline.preview import FastDecoder
from .memory import ManagedModel
from .progress import Film


class Preview:
    """Clean estimates to a film of their first clip. decode: of its video.    fps: its frames a second."""

    def __init__(self, model: ManagedModel, decode: FastDecoder, fps: Fraction) -> None:
        self._decode, self._fps = decode, float(fps)
        self._hear = model.loudness if _wanted() else None

    def __call__(self, estimate: JointLatents | None) -> Film | None:
        """None where there is none, and where none is wanted."""
        if estimate is None or self._hear is None:
            return None
        return Film(self._decode(estimate.video[0]), self._hear(estimate.audio[0]), self._fps)


def _wanted() -> bool:
    """Not where the page's setting "Live preview method" is none. Its default leaves it to an option of ComfyUI's start
    whose own default is none, so that this one says nothing of what the user wants."""
    running, _ = PromptServer.instance.prompt_queue.get_current_queue()
    return all(extra.get("preview_method") != "none" for _, _, _, extra, *_ in running)
