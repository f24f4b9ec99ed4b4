"""Which prompts the bundled model takes for what, by its text encoder alone.

    python tests/benchmarks/words.py --json docs/logs/words.json

Captions that it was not trained on, three lists of prompts in words that no caption has, and prompts about other
things:
how many it takes for the right subject, for another, and for none that it knows. Takes seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from jointdit import JointDiTPipeline
from jointdit.evaluate.prompts import BLIND_WORDS, FRESH_WORDS, STRANGE_PROMPTS, UNSEEN_WORDS
from jointdit.media.files import whole_file
from jointdit.recipes.tiny.words import draw_captions

SEED = 60_000  # of captions; the recipe trains on those from 40,000 on and is scored on 50,000


def examine(pipe: JointDiTPipeline, prompts: Sequence[str], subjects: Sequence[str | None]) -> dict[str, object]:
    """subjects: what each prompt is about; None is nothing that the model knows."""
    found = {"prompts": len(prompts), "right": 0, "another": [], "none": []}
    for each, subject in zip(pipe.recognise(prompts), subjects, strict=True):
        taken = each.nearest if each.known else None
        if taken == subject:
            found["right"] += 1
        elif taken is None:
            found["none"].append(f"{each.prompt} ({subject})")
        else:
            found["another"].append(f"{each.prompt} ({subject}): {taken}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pipe = JointDiTPipeline.from_pretrained(options.model)
    rows = {"captions": draw_captions(300, SEED), "strange": (STRANGE_PROMPTS, [None] * len(STRANGE_PROMPTS))}
    for name, words in (("unseen", UNSEEN_WORDS), ("fresh", FRESH_WORDS), ("blind", BLIND_WORDS)):
        pairs = [(text, subject) for subject, texts in words.items() for text in texts]
        rows[name] = tuple(zip(*pairs, strict=True))
    found = {name: examine(pipe, *row) for name, row in rows.items()}
    print(json.dumps(found, indent=1))
    if options.json:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "gpu": None}
        report = {"command": f"tests/benchmarks/words.py --model {options.model}", "machine": machine, "rows": found}
        with whole_file(options.json) as partial:
            partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
