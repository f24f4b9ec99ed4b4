"""What the options of `jointdit generate` make: one clip of any length, or several at once, by a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .jobs import Job
from .settings import guidance_options, memory_settings, sampling_settings, set_speed

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..media import Clip
    from ..pipeline import JointDiTPipeline, LongClip

Report = Callable[[str, int, int], None]
Preview = Callable[["np.ndarray"], None]


def check_given(options: Mapping[str, Any]) -> None:
    """A video or a sound must be there; how much of it is needed, the model knows."""
    from ..media.files import source_file

    if options["image"] and options["video"]:
        raise InputError(f"PHOTO {options['image'][0]} and --video {options['video']}: give one of them")
    for name in ("video", "audio"):
        if options[name]:
            source_file(options[name])
    if options["retake"] and not options["video"]:
        raise InputError("--retake makes a part of a clip anew; name the clip with --video")
    if options["retake_only"] and not options["retake"]:
        raise InputError(f"--retake-only {options['retake_only']}: say which seconds with --retake")
    if options["retake"] and options["audio"]:
        raise InputError("--retake keeps the clip's own sound outside of its seconds; leave out --audio")


def set_up(pipe: JointDiTPipeline, options: Mapping[str, Any], device: torch.device) -> JointDiTPipeline:
    """The same model, with the options of memory and speed."""
    pipe.set_memory(memory_settings(options), device)
    set_speed(pipe, options)
    return pipe


class Maker:
    """Makes clips as options ask for them; what is given for all of them is read once.

    shape: of a clip, or of a window of a longer one.    one_by_one: whether several cannot be made at once.
    """

    def __init__(self, pipe: JointDiTPipeline, options: Mapping[str, Any]) -> None:
        self.pipe, self.options = pipe, options
        width, height = options["size"] or (None, None)
        window = options["window"] or pipe.defaults.frames
        frames = options["frames"] or pipe.defaults.frames
        self.shape = pipe.shape(min(frames, window), options["fps"], height, width)
        # The frames of another rate do not end with the clip.
        seconds = float(frames / self.shape.fps) + 1 if options["frames"] else None
        self.recordings = {} if options["retake"] else _recordings(options, seconds)
        self.settings = sampling_settings(options, pipe.guidance.changed(**guidance_options(options)))
        self.one_by_one = bool(self.recordings) or bool(options["retake"]) or frames > window

    def one(
        self, job: Job, picture: np.ndarray | None, callback: Report, preview: Preview | None = None
    ) -> Clip | LongClip:
        """One clip, of any length.

        picture: uint8 [H, W, 3]; None beside a given video.    callback, preview: as in `JointDiTPipeline.__call__`.
        """
        import torch

        from ..media import read_clip

        options, generator = self.options, torch.Generator().manual_seed(job.seed)
        if options["retake"]:
            start, stop = options["retake"]
            return self.pipe.retake(
                read_clip(options["video"]),
                start,
                stop,
                prompt=job.prompt,
                negative_prompt=options["negative_prompt"],
                what=options["retake_only"] or "both",
                settings=self.settings,
                generator=generator,
                callback=callback,
            )
        return self.pipe.long(
            picture,
            job.prompt,
            options["negative_prompt"],
            video=self.recordings.get("video"),
            audio=self.recordings.get("audio"),
            window=options["window"],
            overlap=options["overlap"],
            generator=generator,
            callback=callback,
            preview=preview,
            **self._asked(),
        )

    def batch(self, jobs: Sequence[Job], pictures: list[np.ndarray], callback: Report) -> list[Clip]:
        """The clips of some jobs at once; each has its own generator, and so does not depend on the others."""
        import torch

        generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
        return self.pipe(
            pictures,
            [job.prompt for job in jobs],
            self.options["negative_prompt"],
            generator=generators if len(generators) > 1 else generators[0],
            callback=callback,
            **self._asked(),
        )

    def _asked(self) -> dict[str, Any]:
        """What all clips have in common."""
        options = self.options
        width, height = options["size"] or (None, None)
        return {
            "frames": options["frames"],
            "fps": options["fps"],
            "height": height,
            "width": width,
            "fit": options["fit"] or "cover",
            "motion_bucket": options["motion_bucket"],
            "noise_augmentation": options["noise_augmentation"],
            "settings": self.settings,
        }


def _recordings(options: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    """A given video or sound: its beginning, or all of it."""
    from ..media import read_audio
    from ..media.encode import check_channels
    from ..pipeline import GivenVideo

    readers = {"video": GivenVideo.of, "audio": read_audio}
    found = {name: read(options[name], max_seconds=seconds) for name, read in readers.items() if options[name]}
    if "audio" in found:  # which is kept; that of a video is not
        check_channels(f"--audio {options['audio']}", len(found["audio"][0]))
    return found
