"""A result as one HTML file that needs no other: the table, the differences, and the plot of each clip."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..media.files import whole_file
from .report import Cells

MOST_PLOTS = 60
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
thead th { border-bottom: 2px solid #888; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: .9rem; }
dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; } figcaption { font-weight: 600; } img { max-width: 100%; }
"""


@dataclass
class Page:
    """Collects what goes on the page. title: its heading.    plots: by clip, PNG."""

    title: str
    plots: dict[str, bytes] = field(default_factory=dict)
    more: int = 0  # clips whose plots are left out

    def add_plot(self, name: str, picture: NDArray[np.uint8]) -> None:
        """The plot of a clip, uint8 [H, W, 3], of the first `MOST_PLOTS`."""
        if len(self.plots) >= MOST_PLOTS:
            self.more += 1
            return
        png = BytesIO()
        Image.fromarray(picture).quantize(128).save(png, "PNG", optimize=True)
        self.plots[name] = png.getvalue()

    def write(self, path: Path, facts: Mapping[str, str], tables: Sequence[Cells], notes: Sequence[str]) -> None:
        """facts: what was measured, and how.    tables: of `report`."""
        found = [f"<h1>{escape(self.title)}</h1>"]
        found += [_table(cells) for cells in tables]
        found += [f"<p>{escape(note)}</p>" for note in notes]
        found.append("<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>")
        for name, png in self.plots.items():
            data = base64.b64encode(png).decode()
            image = f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">'
            found.append(f"<figure><figcaption>{escape(name)}</figcaption>{image}</figure>")
        if self.more:
            found.append(f"<p>The plots of {self.more} more clips are left out; --plots writes all.</p>")
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title><style>{STYLE}</style>'
        body = "\n".join(found)
        html = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
        with whole_file(path) as partial:
            partial.write_text(html, encoding="utf-8")


def _table(cells: Cells) -> str:
    head, *rows = cells
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
