"""`jointdit run-workflow`: a ComfyUI workflow on a server, without its page."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from .options import Option, add_options, number, read_options

SERVER = "http://127.0.0.1:8188"
MOST_SECONDS = 1e6
LIMITS = (
    Option("max-megabytes", "N", number(0.001, 1e6), "refuse results that are larger, all together (default 4096)"),
    Option("max-seconds", "S", number(0.1, MOST_SECONDS), "give up on a result that takes longer (default 600)"),
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = "Run a workflow on a ComfyUI server, follow it, and download what it saves. Ctrl-C cancels it there."
    parser = commands.add_parser(
        "run-workflow", help="run a ComfyUI workflow on a server", description=text, allow_abbrev=False
    )
    parser.add_argument("workflow", metavar="FILE", type=Path, help="workflow, in the page's or in the API's format")
    parser.add_argument("--server", metavar="URL", default=SERVER, help=f"the ComfyUI server (default {SERVER})")
    parser.add_argument("--image", metavar="PHOTO", type=Path, help="picture for the workflow's Load Image nodes")
    parser.add_argument("--video", metavar="FILE", type=Path, help="video for its Load Video nodes")
    parser.add_argument("--audio", metavar="FILE", type=Path, help="sound for its Load Audio nodes")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        dest="changes",
        action="append",
        default=[],
        help='another value for a widget, such as "prompt=heavy rain" or "5.seed=7" in node 5 alone; may be repeated',
    )
    out = "folder for the results (default: a new one here, by the workflow's name)"
    parser.add_argument("--out", metavar="DIR", type=Path, help=out)
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names in --out")
    add_options(parser, LIMITS)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        help="cancel a job that takes longer (default: wait for as long as the server answers)",
    )
    parser.add_argument("--save-api", metavar="FILE", type=Path, help="only write the graph in the API's format")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Runs the workflow and prints the texts that it shows and the path of each file that it saved."""
    from ..comfyui.client import ComfyClient, Limits
    from ..comfyui.results import own_folder, shown_texts
    from ..comfyui.workflow import LOADERS, loaders, read_workflow, set_file, set_input
    from ..media.files import write_json
    from .progress import Progress

    if arguments.timeout is not None and not 0 < arguments.timeout <= MOST_SECONDS:
        raise InputError(f"--timeout {arguments.timeout}: must be above 0 and at most {MOST_SECONDS:g}")
    asked = {name: value for name, value in read_options(LIMITS, arguments).items() if value is not None}
    limits = Limits(asked.get("max_megabytes", Limits.megabytes), asked.get("max_seconds", Limits.seconds))
    graph = read_workflow(arguments.workflow)
    for change in arguments.changes:
        set_input(graph, change)
    if arguments.save_api:
        write_json(arguments.save_api, graph)
        return
    client = ComfyClient(arguments.server, limits)
    files = {kind: path for kind in LOADERS if (path := getattr(arguments, kind))}
    for kind in files:
        loaders(graph, kind)  # refused before anything is sent
    for kind, path in files.items():
        set_file(graph, kind, client.upload(path))
    with Progress(arguments.quiet) as progress:
        outputs, refusals = client.run(graph, progress, arguments.timeout)
    for text in shown_texts(outputs):
        print(text)
    written = client.download(outputs, arguments.out or own_folder(arguments.workflow), arguments.overwrite)
    for path in written:
        print(path)
    if refusals:
        raise InputError(f"the server left a part of the workflow out: {'; '.join(refusals)}")
    if not written:
        raise InputError(f"{arguments.workflow}: the workflow ran but saved nothing; add a Save Video node")
