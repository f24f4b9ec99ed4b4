"""`jointdit ui`: the page in a browser."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError
from .models import DEFAULT_MODEL, model_places

HOST, PORT, UPLOAD = "127.0.0.1", 7860, 200


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = "Serve a page with all that a clip can be asked for. Only this machine sees it, unless told otherwise."
    parser = commands.add_parser("ui", help="serve a web page", description=text, allow_abbrev=False)
    parser.add_argument("--host", default=HOST, help=f"address to listen at (default {HOST}: this machine alone)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen at (default {PORT})")
    parser.add_argument("--models", metavar="DIR", type=Path, help="offer the model folders in this folder too")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: cuda if there is one)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument(
        "--upload-limit", metavar="MB", type=int, default=UPLOAD, help=f"largest file that is taken (default {UPLOAD})"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error, and warnings")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Serves the page until Ctrl-C."""
    if not 1 <= arguments.port <= 65535:
        raise InputError(f"--port {arguments.port}: must be a whole number from 1 to 65535")
    if arguments.upload_limit < 1:
        raise InputError(f"--upload-limit {arguments.upload_limit}: must be at least 1 MB")
    trusted = is_loopback(arguments.host)
    models = [DEFAULT_MODEL, *found_models(arguments.models, trusted)]
    if find_spec("gradio") is None:
        raise InputError(f'the page (jointdit[ui]) lacks Gradio; get it with: "{sys.executable}" -m pip install gradio')

    from .progress import hushed

    with hushed():
        from ..ui.clips import Studio
        from ..ui.page import build_page, launch_options

        page = build_page(Studio(arguments.device), models, trusted)
        page.queue(max_size=32)
        options = launch_options(arguments.host, arguments.port, arguments.upload_limit)
        try:
            _, address, _ = page.launch(prevent_thread_lock=True, inbrowser=arguments.open, **options)
        except OSError as error:
            raise InputError(f"--port {arguments.port}: is taken at {arguments.host}; name another") from error
        print(f"{address} (Ctrl-C ends it)", flush=True)
        if not trusted:
            print("Anyone who reaches this address can use the page; it has no password.", file=sys.stderr, flush=True)
        page.block_thread()


def found_models(folder: Path | None, trusted: bool) -> list[str]:
    """Model folders inside a folder, and for who is trusted inside this one and its `models`.

    Raises InputError where there is no such folder.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"--models {folder}: there is no such folder")
    places = ([] if folder is None else [folder]) + ([*model_places()] if trusted else [])
    found = (str(path.parent) for place in places for path in sorted(place.glob("*/model_index.json")))
    return list(dict.fromkeys(found))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
