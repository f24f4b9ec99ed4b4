"""The modes of guidance (`guidance`) and the scales that each has. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping

HIGHEST = 100.0  # beyond every use, and far from overflow

# The condition scales are the pretrained pipelines' own: 1 to 3 over frames, and 3.5. In joint-cfg they are w.
PROMPT = {"video_prompt_scale": 1.0}
DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "cfg": {"video_scale_start": 1.0, "video_scale": 3.0, "audio_scale": 3.5, **PROMPT},
    "joint-cfg": {"video_scale_start": 1.0, "video_joint_scale": 3.0, "audio_joint_scale": 3.5, **PROMPT},
    "joint-cfg-star": {
        "video_scale_start": 1.0,
        "video_scale": 3.0,
        "audio_scale": 3.5,
        "video_joint_scale": 2.0,
        "audio_joint_scale": 2.0,
        **PROMPT,
    },
}
# s and w of a modality: joint-cfg has one number for both, cfg has s alone.
TWINS = {"video_scale": "video_joint_scale", "audio_scale": "audio_joint_scale"}
TWINS |= {joint: scale for scale, joint in TWINS.items()}
