"""Takes the pictures of the help pages: each node as ComfyUI's page draws it.

python docs/draw_nodes.py http://127.0.0.1:8188 web/docs
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
PATIENCE = 600_000  # milliseconds
SCALE, WIDTH, MARGIN = 1.5, 380, 36
CORNER = 250  # of the node on the page: below the page's own bars
# Puts the node alone on the canvas, as high as it needs; returns where it is on the page: left, top, width, height.
SHOW = f"""type => {{
  for (const old of [...app.graph.nodes]) app.graph.remove(old);  // clear() would count ids and values anew
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  node.pos = [0, 0];
  if (node.hasAdvancedWidgets()) node.toggleAdvanced();
  node.setSize([{WIDTH}, node.computeSize()[1]]);
  app.canvas.ds.scale = {SCALE};
  app.canvas.ds.offset = [{CORNER} / {SCALE}, {CORNER} / {SCALE}];
  app.canvas.setDirty(true, true);
  const corner = app.canvas.canvas.getBoundingClientRect();
  const title = LiteGraph.NODE_TITLE_HEIGHT * {SCALE};
  const [width, height] = [...node.size].map(side => side * {SCALE});
  return [corner.x + {CORNER}, corner.y + {CORNER} - title, width, height + title];
}}"""


def draw(server: str, folder: Path) -> None:
    """Writes a PNG beside each help page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--disable-gpu"], timeout=PATIENCE
        )
        page = browser.new_page(viewport={"width": 1200, "height": 1200})
        page.set_default_timeout(PATIENCE)
        page.goto(server)
        page.wait_for_function("window.app?.graph")
        page.locator("#splash-loader").wait_for(state="hidden")
        page.wait_for_timeout(5000)
        page.keyboard.press("Escape")  # a new installation opens its templates
        page.wait_for_timeout(2000)
        for help_page in sorted(folder.glob("*.md")):
            x, y, width, height = page.evaluate(SHOW, help_page.stem)
            page.wait_for_timeout(3000)  # until it is drawn
            size = {"width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
            page.screenshot(path=help_page.with_suffix(".png"), clip={"x": x - MARGIN, "y": y - MARGIN, **size})
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    draw(arguments.server, arguments.folder)
