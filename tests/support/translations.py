"""Writes what ComfyUI's page shows of the nodes in other languages, `locales/LANGUAGE/`, from `locales/texts.toml`.

python tests/support/translations.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from comfy_pack import ROOT, load_pack, nodes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCALES = ROOT / "locales"
LANGUAGES = ("zh", "ja")
AFTER_GENERATE = "control_after_generate"  # the page's own widget behind a seed


def table() -> dict[str, Mapping[str, str]]:
    """By English text: the text in each language."""
    rows = tomllib.loads((LOCALES / "texts.toml").read_text(encoding="utf-8"))["text"]
    return {row["en"]: row for row in rows}


def english() -> dict[str, Any]:
    """What a language's folder has, in English, by the name of the file: all that the page looks up of the nodes."""
    load_pack()
    known = [node.define_schema() for node in nodes().values()]
    sockets = {each.io_type for schema in known for each in (*schema.inputs, *schema.outputs)}
    categories = {part for schema in known for part in schema.category.split("/")}
    return {
        "main.json": {
            "nodeCategories": {name: name for name in sorted(categories)},
            "dataTypes": {name: name for name in sorted(sockets) if name.startswith("JOINTDIT_")},
        },
        "nodeDefs.json": {
            schema.node_id: {
                "display_name": schema.display_name,
                "description": schema.description,
                "inputs": dict(_inputs(schema.inputs)),
                "outputs": {
                    str(index): {"name": each.display_name, "tooltip": each.tooltip}
                    for index, each in enumerate(schema.outputs)
                },
            }
            for schema in known
        },
    }


def _inputs(inputs: list[Any], owner: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Inputs as the page calls them: those of a dynamic combo's options behind its own name."""
    for each in inputs:
        yield f"{owner}{each.id}", {"name": each.display_name or each.id, "tooltip": each.tooltip}
        if getattr(each, AFTER_GENERATE, None):
            yield AFTER_GENERATE, {"name": AFTER_GENERATE}
        for option in getattr(each, "options", None) or []:
            yield from _inputs(getattr(option, "inputs", []), f"{owner}{each.id}_")


def translated(data: Any, words: Mapping[str, str], missing: dict[str, str], at: str) -> Any:
    """The data with each text as `words` has it. Into `missing` goes what they lack, and where it is shown."""
    if isinstance(data, dict):
        return {key: translated(each, words, missing, f"{at}.{key}") for key, each in data.items()}
    if not words.get(data):
        missing[data] = at
    return words.get(data)


def folder(language: str) -> dict[str, Any]:
    """The files of a language by name. Raises ValueError that lists the texts without a translation."""
    missing: dict[str, str] = {}
    words = {text: row.get(language, "") for text, row in table().items()}
    files = {name: translated(data, words, missing, name) for name, data in english().items()}
    if missing:
        listed = "\n".join(f"  {place}: {text!r}" for text, place in missing.items())
        raise ValueError(f"locales/texts.toml lacks {len(missing)} texts in {language!r}:\n{listed}")
    return files


def encoded(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def write() -> None:
    for language in LANGUAGES:
        for name, data in folder(language).items():
            path = LOCALES / language / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(encoded(data), encoding="utf-8")


if __name__ == "__main__":
    write()
