"""One clip by itself: what its picture and its sound have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..media import Clip
from .align import Curves, motion_loudness, onset_align
from .heard import events_heard
from .matching import match_events
from .seen import events_seen


@dataclass(frozen=True)
class ClipScores:
    """Scores of one clip, plain: a clip that is noisy all the time has high ones, too.

    hits: events that are seen and heard within one frame.    offset_ms: median of heard minus seen, NaN without hits.
    """

    seen: int
    heard: int
    hits: int
    offset_ms: float
    onset_align: float
    motion_loudness: float

    def lines(self) -> list[str]:
        """The scores in words."""
        late = f"; the sound comes {self.offset_ms:+.0f} ms after the picture" if self.hits else ""
        return [
            f"{self.seen} events seen, {self.heard} heard, {self.hits} of them within one frame of each other{late}",
            f"onset alignment: {self.onset_align:.2f}",
            f"correlation of motion with loudness: {self.motion_loudness:+.2f}",
        ]


def score_clip(clip: Clip) -> ClipScores:
    """Raises ValueError for a clip without sound."""
    curves = Curves.of(clip)
    seen, heard = events_seen(clip.frames, clip.fps), events_heard(clip.audio, clip.sample_rate)
    pairs = match_events(seen, heard, float(1 / clip.fps))
    offsets = heard[pairs[:, 1]] - seen[pairs[:, 0]]
    return ClipScores(
        seen=len(seen),
        heard=len(heard),
        hits=len(pairs),
        offset_ms=1000 * float(np.median(offsets)) if len(offsets) else float("nan"),
        onset_align=onset_align(curves, curves),
        motion_loudness=motion_loudness(curves, curves),
    )
