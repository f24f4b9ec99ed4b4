"""What `jointdit evaluate` does with test sets and folders: make the clips, observe them, and tabulate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .models import choose_device

if TYPE_CHECKING:
    from ..datasets.recordings import Recording
    from ..evaluate.extractors import Extractor
    from ..evaluate.measures import Observation, Row
    from ..evaluate.page import Page
    from ..evaluate.paired_set import PairedSet
    from ..evaluate.report import Cells
    from ..media import Clip
    from ..pipeline import JointDiTPipeline, SamplingSettings

Progress = Callable[[str, int, int], None]
Plot = Callable[[str, "Clip"], None]
READ_AT_ONCE = 2**20  # bytes


class Results:
    """What is written and printed at the end: the same for clips, test sets and models."""

    def __init__(self, page: Page | None) -> None:
        self.page = page
        self.report: dict[str, Any] = {}
        self.lines: list[str] = []
        self.tables: list[Cells] = []
        self.notes: list[str] = []

    def add_table(self, rows: Sequence[Row]) -> None:
        """The measures."""
        from ..evaluate.report import as_json, markdown_lines, table_cells

        self.report["table"] = as_json(list(rows))
        self.tables.append(table_cells(rows))
        self.lines += markdown_lines(self.tables[-1])

    def write(self, options: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """All files that were asked for."""
        from ..evaluate.report import markdown_lines
        from ..media.files import whole_file, write_json

        if options["json"]:
            write_json(options["json"], self.report)
        if options["markdown"]:
            text = "\n\n".join("\n".join(markdown_lines(cells)) for cells in self.tables)
            with whole_file(options["markdown"]) as partial:
                partial.write_text(text + "\n", encoding="utf-8")
        if self.page:
            known = {name: _shown(value) for name, value in facts.items() if value not in (None, [], {})}
            self.page.write(options["page"], known, self.tables, self.notes)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {each}" for name, each in value.items())
    return "; ".join(map(_shown, value)) if isinstance(value, list) else str(value)


def find_test_recordings(options: Mapping[str, Any]) -> list[Recording]:
    """Those of the test set that was asked for."""
    from ..datasets.recordings import find_recordings

    return find_recordings(options["videos"], _layout(options), _split(options), options["limit"])


def _layout(options: Mapping[str, Any]) -> str:
    return options["layout"] or "classes"


def _split(options: Mapping[str, Any]) -> str | None:
    """That of a published set is `test` unless another one is asked for."""
    from ..datasets.recordings import PUBLISHED

    return options["split"] or ("test" if _layout(options) in PUBLISHED else None)


def generate(
    options: Mapping[str, Any],
    recordings: Sequence[Recording],
    pipe: JointDiTPipeline,
    sampling: SamplingSettings,
    settings: Mapping[str, Any],
    progress: Progress,
) -> PairedSet:
    """The test set that was asked for, with the clips of this part made. settings: of the model and of sampling."""
    from ..evaluate.paired_set import begin_set, generate_set, list_items

    places, prompts = options["places"] or 1, options["prompts"] or "none"
    number, count = options["part"] or (0, 1)
    wanted = {name: settings[name] for name in settings if name not in ("clips", "effect", "prompts", "photos")}
    wanted |= {
        "set": options["videos"].absolute().name,
        "layout": _layout(options),
        "split": _split(options),
        "limit": options["limit"],
        "places": places,
        "samples": options["samples"] or 1,
        "prompts": prompts,
        "joint_sha256": _checksum(options["joint"]),
        "weights_sha256": _weights(pipe),
    }
    made = begin_set(options["generate"], list_items(recordings, places), wanted)
    width, height = options["size"] or (None, None)
    generate_set(
        pipe,
        recordings,
        made,
        pipe.shape(options["frames"], options["fps"], height, width),
        sampling,
        prompts == "captions",
        options["batch"] or 4,
        number,
        count,
        lambda done, total: progress("recordings", done, total),
    )
    return made


def _checksum(path: Path | None) -> str | None:
    """Of a Joint Block file, by which it is found again."""
    if path is None or not path.is_file():
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def _weights(pipe: JointDiTPipeline) -> str:
    """Of all weights as they were loaded: others in files of the same names are another model."""
    import torch

    digest = hashlib.sha256()
    for name, part in sorted(pipe.components.items()):
        for key, tensor in sorted(part.state_dict().items()) if isinstance(part, torch.nn.Module) else ():
            digest.update(f"{name}.{key}\0".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_extractors(options: Mapping[str, Any]) -> list[Extractor]:
    """Those of `--features`."""
    if options["features"] is None:
        return []
    from ..evaluate.extractors import find_extractors

    return find_extractors(options["features"], choose_device(options["device"]))


def write_export(made: PairedSet, program: str) -> Path:
    """The commands of another program, in a script."""
    from ..evaluate.export import EXPORTS
    from ..media.files import whole_file

    made.check_complete()
    name, lines_of = EXPORTS[program]
    script = made.folder / name
    with whole_file(script) as partial:
        partial.write_text("\n".join(lines_of(made)) + "\n", encoding="utf-8")
    return script


def measure_test_set(
    made: PairedSet,
    extractors: Sequence[Extractor],
    against: PairedSet | None,
    results: Results,
    progress: Progress,
    plot: Plot,
) -> None:
    """Observes and tabulates a test set, against another one where that is asked for."""
    from ..evaluate.measures import measure_set, recordings_of, tabulate
    from ..evaluate.paired_set import REFERENCE, sample_folder

    made.check_complete()
    if against:
        against.check_complete()
    samples = [sample_folder(number) for number in range(made.samples)]
    reference, left_out = _observe(made, [REFERENCE], extractors, lambda *at: progress("reference", *at))
    clips, silent = _observe(made, samples, extractors, lambda *at: progress("clips", *at), plot)
    results.report |= {
        "folder": str(made.folder),
        "settings": made.settings,
        "clips": len(clips),
        "recordings": len(recordings_of(clips)),
        "networks": [extractor.describe() for extractor in extractors],
        "skipped": made.left_out() | left_out | silent,
    }
    split = made.settings["split"]
    results.notes.append(
        f"{made.settings['set']}{f', split {split}' if split else ''}: {len(clips)} clips of "
        f"{len(recordings_of(clips))} recordings"
    )
    results.lines += results.notes
    results.lines += [f"left out: {name}: {reason}" for name, reason in results.report["skipped"].items()]
    recordings = recordings_of(clips, reference)
    results.add_table(tabulate(measure_set(clips, reference, recordings, extractors), len(recordings)))
    if against:
        samples = [sample_folder(number) for number in range(against.samples)]
        theirs, _ = _observe(against, samples, extractors, lambda *at: progress("against", *at))
        add_comparison(results, clips, theirs, reference, extractors, against.folder.name)


def add_comparison(
    results: Results,
    ours: Sequence[Observation],
    theirs: Sequence[Observation],
    reference: Sequence[Observation],
    extractors: Sequence[Extractor],
    name: str,
) -> None:
    """The differences of two sets of clips on the pictures that both have."""
    from ..evaluate.measures import compare, measure_set, on_same_pictures, recordings_of
    from ..evaluate.report import as_json, compared_cells, markdown_lines

    ours, theirs = on_same_pictures(ours, theirs)
    shared = {each.name for each in ours}
    paired = [each for each in reference if each.name in shared]
    truth = paired if len(paired) == len(shared) else reference
    recordings = recordings_of(ours, truth)
    measures = [measure_set(each, truth, recordings, extractors) for each in (ours, theirs)]
    found = compare(measures[0], measures[1], len(recordings))
    results.report |= {"against": name, "same_pictures": len(shared), "comparison": as_json(found)}
    results.tables.append(compared_cells(found, name))
    results.lines += ["", *markdown_lines(results.tables[-1])]


def _observe(
    made: PairedSet,
    places: Sequence[str],
    extractors: Sequence[Extractor],
    progress: Callable[[int, int], None],
    plot: Plot = lambda name, clip: None,
) -> tuple[list[Observation], dict[str, str]]:
    from ..evaluate.measures import observe_clip
    from ..media import read_clip

    found, skipped = [], {}
    left_out = made.left_out()
    wanted = [(place, item) for item in made.items if item.name not in left_out for place in places]
    for done, (place, item) in enumerate(wanted):
        progress(done, len(wanted))
        path = made.path(place, "clips", item.name)
        clip = read_clip(path)
        try:
            found.append(observe_clip(clip, item.name, item.recording, item.caption, extractors, path=path))
        except InputError as error:
            skipped[f"{place}/{item.name}"] = str(error).removeprefix(f"{item.name}: ")
        else:
            plot(item.name if len(places) == 1 else f"{item.name} {place}", clip)
    progress(len(wanted), len(wanted))
    if len(found) < 2:
        raise InputError(
            f"{made.folder}: {len(found)} clips with sound in {', '.join(places)}; measures need at least 2"
        )
    return found, skipped


def caption_of(path: Path) -> str:
    """The caption of a clip: of the text beside it, or of the JSON that `jointdit synth` writes."""
    with suppress(OSError):
        return " ".join(path.with_suffix(".txt").read_text(encoding="utf-8").split())
    with suppress(OSError, ValueError, TypeError, KeyError):
        return str(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["caption"])
    return ""
