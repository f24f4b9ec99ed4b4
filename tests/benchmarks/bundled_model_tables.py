"""Tables of the bundled model's scores, made from the logs of its benchmarks.

python tests/benchmarks/bundled_model_tables.py            # prints every row and every effect
python tests/benchmarks/bundled_model_tables.py --card     # writes the extract that docs/model-card.md shows
python tests/benchmarks/bundled_model_tables.py --check    # fails if the card shows anything else
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
CARD = DOCS / "model-card.md"
GENERATED = re.compile(r"(?<=<!-- generated: scores -->\n).*?(?=<!-- end of generated -->)", re.DOTALL)

HEADS = (
    "", "clips", "events seen, heard", "seen events heard", "heard events seen", "by chance", "rain, siren",
    "asked effect heard", "seen", "heard is seen", "first frame (autoencoder)", "sound distance",
)  # fmt: skip
EFFECT_HEADS = ("effect", "clips", "events seen, heard (data)", "seen events heard", "heard events seen", "by chance",
                "heard as asked", "seen as asked")  # fmt: skip
CARD_HEADS = ("", "clips", "seen events heard", "heard events seen", "asked effect heard", "asked effect seen")
CARD_ROWS = {
    "main": "as shipped, with captions of the training vocabulary",
    "isolated": "the same weights without joint attention",
    "photos": "natural photos instead of drawn pictures",
    "unseen": "synonyms that no caption has",
    "fresh": "held-out synonyms",
    "no-prompt": "no prompt (asked: what the picture suggests)",
}


def table(report: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: a line for each row of the report, and for each effect of the main row."""
    rows = report["rows"]
    yield from lines(HEADS, [cells(row) for row in rows.values()])
    if "main" in rows:
        yield ""
        yield from lines(EFFECT_HEADS, [effect_cells(rows["main"], effect) for effect in effects(rows["main"])])


def card(report: Mapping[str, Any], clip: Mapping[str, Any], photos: Mapping[str, Any]) -> Iterator[str]:
    """What the model card shows. clip, photos: the logs of `default_clip.py` and of `photos.py`."""
    rows = report["rows"]
    yield from lines(CARD_HEADS, [[title, *card_cells(rows[name])] for name, title in CARD_ROWS.items()])
    yield ""
    for note in (*notes(rows["main"]), photo_note(photos["photos"]), cost_note(clip)):
        yield from textwrap.wrap(f"- {note}", 120, subsequent_indent="  ", break_on_hyphens=False)


def lines(heads: tuple[str, ...], rows: list[list[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def cells(row: Mapping[str, Any]) -> list[str]:
    """One row of the table. Events are counted against those of the scenes; correlations stand beside chance."""
    events, picture = row["sync"].get("all"), row["picture"]
    curves = [correlation(sync) for sync in row["sync"].values() if "correlation" in sync]
    scales = row["settings"]["scales"] if row["title"].startswith("guidance") else {}
    named = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in scales.items())
    return [
        row["title"] + (f" ({named})" if named else ""),
        str(row["clips"]),
        ", ".join(event_rates(row)) if events else "",
        corrected(events["seen_heard"]) if events else "",
        corrected(events["heard_seen"]) if events else "",
        number(events["seen_heard"]["chance"]) if events else "",
        ", ".join(curves),
        share(row["sound"]),
        share(row["pictures"]),
        number(row["agree"][0]),
        f"{picture['psnr_first_frame']:.1f} ({picture['psnr_autoencoder']:.1f}) dB",
        f"{row['sound_distance']['value'] - row['sound_distance']['excess']:.1f}",
    ]


def effect_cells(row: Mapping[str, Any], effect: str) -> list[str]:
    """One effect of a row."""
    sync, truth = row["sync"][effect], row["truth_sync"][effect]
    named = [number(row[kind]["by_effect"][effect]) for kind in ("sound", "pictures")]
    if "correlation" in sync:
        found = ["", f"correlation {correlation(sync)}", "", ""]
    else:
        rates = " ".join(f"{sync[name]:.2f} ({truth[name]:.2f})" for name in ("seen_per_clip", "heard_per_clip"))
        found = [rates, corrected(sync["seen_heard"]), corrected(sync["heard_seen"])]
        found.append(number(sync["seen_heard"]["chance"]))
    return [effect, str(sync["clips"]), *found, *named]


def card_cells(row: Mapping[str, Any]) -> list[str]:
    """One row of the card's table, without its title."""
    events = row["sync"]["all"]
    scores = corrected(events["seen_heard"]), corrected(events["heard_seen"])
    return [str(row["clips"]), *scores, share(row["sound"]), share(row["pictures"])]


def notes(row: Mapping[str, Any]) -> Iterator[str]:
    """What else a row says, in sentences."""
    picture, truth, sync = row["picture"], row["truth_sync"]["all"], row["sync"]
    by_effect = {
        effect: sync[effect]["seen_heard"]["corrected"] for effect in effects(row) if "seen_heard" in sync[effect]
    }
    worst, best = (choose(by_effect, key=by_effect.__getitem__) for choose in (min, max))
    curves = [f"{name} {correlation(sync[name])}" for name in effects(row) if "correlation" in sync[name]]
    yield (
        f"Seen events that are heard, by effect: from {by_effect[worst]:.2f} ({worst}) to {by_effect[best]:.2f} "
        f"({best}). Rain and sirens have no events; how the picture and the loudness change together correlates: "
        f"{', '.join(curves)}. The scenes themselves, through the autoencoders: {corrected(truth['seen_heard'])} and "
        f"{corrected(truth['heard_seen'])}."
    )
    seen, heard = event_rates(row)
    yield f"Number of events: {seen} of those in the scenes are seen, {heard} are heard."
    yield (
        f"The judges recognise {row['sound']['held_out']:.0%} of held-out scenes by their sound and "
        f"{row['pictures']['held_out']:.0%} by their pictures. In {row['agree'][0]:.0%} of the clips the effect that "
        "is heard is the one that is seen."
    )
    yield (
        f"First frame against the given picture: {picture['psnr_first_frame']:.1f} dB (the video autoencoder alone "
        f"{picture['psnr_autoencoder']:.1f} dB). Second frame: {picture['psnr_second_frame']:.1f} dB (in the scenes "
        f"{picture['truth_psnr_second_frame']:.1f} dB). Mean colours drift by {picture['drift_size']:.1f} grey levels "
        f"over a clip (in the scenes {picture['truth_drift_size']:.1f}); motion is {picture['motion']:.1f} grey levels "
        f"a frame (scenes {picture['truth_motion']:.1f})."
    )
    bells = row["bell_flutter"]
    yield (
        f"Sound: {row['loudness_dbfs']:.1f} dBFS, {row['silent']:.0%} of the clips silent, first and last sample at "
        f"{row['ends_dbfs']:.0f} dBFS. The audio autoencoder and the vocoder alone err by "
        f"{row['autoencoded_log_mel_error_db']:.1f} dB of log-mel and {row['autoencoded_pitch_error_cents']:.0f} "
        f"cents. The strongest partial of a bell is modulated at 25 Hz by {bells['made']:.2f} of its level, by "
        f"{bells['autoencoded']:.2f} through these alone, and by {bells['scenes']:.2f} in the scenes."
    )


def photo_note(photos: Mapping[str, Any]) -> str:
    """What the model does with photos that it never saw."""

    def span(values: list[float]) -> str:
        return f"{min(values):.1f} to {max(values):.1f}"

    def of(prompt: str, score: str) -> str:
        return span([photo[prompt][score] for photo in photos.values()])

    motion = "motion_grey_levels_a_frame"
    return (
        f"{len(photos)} photos ({', '.join(photos)}): first frame {of('no prompt', 'psnr_first_frame')} dB (the "
        f"autoencoder alone {span([photo['psnr_autoencoder'] for photo in photos.values()])} dB); motion "
        f"{of('no prompt', motion)} grey levels a frame without a prompt, {of('thunderstorm', motion)} with "
        f'"thunderstorm"; loudness {of("no prompt", "loudness_dBFS")} dBFS.'
    )


def cost_note(clip: Mapping[str, Any]) -> str:
    """What a clip costs."""
    seconds = clip["seconds"]
    return (
        f"A default clip, made from Python: {seconds['total']:.1f} s, of which {seconds['import']:.1f} s are "
        f"imports, and {clip['peak_memory_GiB']:.2f} GiB of memory ({clip['machine']})."
    )


def effects(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row["sync"] if name != "all"]


def event_rates(row: Mapping[str, Any]) -> list[str]:
    """Events a clip, seen and heard, as shares of those in the scenes."""
    return [f"{row['sync']['all'][name] / row['true_events']:.0%}" for name in ("seen_per_clip", "heard_per_clip")]


def correlation(sync: Mapping[str, Any]) -> str:
    return f"{number(sync['correlation']['value'])} (chance {number(sync['correlation']['chance'])})"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def corrected(score: Mapping[str, Any]) -> str:
    low, high = score["interval"]
    if score["corrected"] is None or low is None:
        return ""
    return f"{score['corrected']:.2f} [{low:.2f}, {high:.2f}]"


def share(named: Mapping[str, Any]) -> str:
    low, high = named["interval"]
    return f"{named['right']:.2f} [{low:.2f}, {high:.2f}]"


def drawn_card() -> str:
    """The text of the model card with what the logs say now."""
    logs = [json.loads((DOCS / "logs" / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("bundled_model", "default_clip", "photos")]  # fmt: skip
    generated = "".join(f"{line}\n" for line in card(*logs))
    return GENERATED.sub(lambda _: generated, CARD.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--card", action="store_true", help=f"write the extract into {CARD.name}")
    what.add_argument("--check", action="store_true", help="exit status 1 if the card is not what the logs say")
    arguments = parser.parse_args()
    if arguments.card:
        CARD.write_text(drawn_card(), encoding="utf-8")
    elif arguments.check:
        sys.exit(CARD.read_text(encoding="utf-8") != drawn_card())
    else:
        print("\n".join(table(json.loads((DOCS / "logs" / "bundled_model.json").read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
