"""What ComfyUI hands over as VIDEO."""

from __future__ import annotations

from comfy_api.v0_0_2 import Input, InputImpl

from ...jointdit.errors import InputError
from ...jointdit.media import Clip
from ...jointdit.options import MAX_SECONDS
from ...jointdit.pipeline import GivenVideo
from ...jointdit.pipeline.pieces import NO_SOUND
from ..sockets import pixels_of


def given_video(video: Input.Video) -> GivenVideo:
    """A whole file is read as it is needed, whatever its length; a part of one is taken into memory, where other videos
    are already. Raises InputError for too long a part."""
    if isinstance(video, InputImpl.VideoFromFile):
        source = video.get_stream_source()
        if isinstance(source, str) and not _is_part(video):
            return GivenVideo.of(source)
        if (seconds := video.get_duration()) > MAX_SECONDS:
            raise InputError(
                f"this part of a video lasts {seconds:.0f} s, but may last {MAX_SECONDS} at most, because it is taken "
                "into memory; cut it shorter, or connect the whole video"
            )
    parts = video.get_components()
    return GivenVideo.of(Clip(pixels_of(parts.images), parts.frame_rate, NO_SOUND, 16000))


def _is_part(video: InputImpl.VideoFromFile) -> bool:
    """Whether Video Slice cut it. Versions of ComfyUI that do not say so have it read by ComfyUI itself."""
    window = getattr(video, "get_active_trim_window", None)
    return window is None or any(window())
