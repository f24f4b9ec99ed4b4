"""Measures of sounding clips: does what is seen happen when it is heard, and is it what was asked for?

Needs the extra `evaluate`. Raises InputError, naming it, where a package of it is missing.
"""

import sys
from importlib.util import find_spec

from ..errors import InputError

_PACKAGES = {"scipy": "scipy", "skimage": "scikit-image", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}

if _missing := [name for module, name in _PACKAGES.items() if find_spec(module) is None]:
    _names = " ".join(_missing)
    raise InputError(
        f'evaluation (jointdit[evaluate]) lacks {_names}; get it with: "{sys.executable}" -m pip install {_names}'
    )

from .align import AlignScores, align_clips  # noqa: E402
from .heard import events_heard, loudness  # noqa: E402
from .matching import match_events  # noqa: E402
from .plot import draw_sync  # noqa: E402
from .seen import events_seen, motion  # noqa: E402
from .sync import Observed, observe, sync_by_effect  # noqa: E402

__all__ = [
    "AlignScores",
    "Observed",
    "align_clips",
    "draw_sync",
    "events_heard",
    "events_seen",
    "loudness",
    "match_events",
    "motion",
    "observe",
    "sync_by_effect",
]
