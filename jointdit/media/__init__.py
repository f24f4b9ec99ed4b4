"""Pictures, sounds and sounding videos as arrays: reading them, fitting them and writing them."""

from .clip import Clip, exact_fps
from .decode import MAX_BYTES, VIDEO_SUFFIXES, ClipStream, measure_video, read_audio, read_clip, stream_clip
from .encode import Piece, check_clip_path, write_pieces, write_video
from .image import fit_image, read_image
from .sound import fit_audio, resample_audio

__all__ = [
    "MAX_BYTES",
    "VIDEO_SUFFIXES",
    "Clip",
    "ClipStream",
    "Piece",
    "check_clip_path",
    "exact_fps",
    "fit_audio",
    "fit_image",
    "measure_video",
    "read_audio",
    "read_clip",
    "read_image",
    "resample_audio",
    "stream_clip",
    "write_pieces",
    "write_video",
]
