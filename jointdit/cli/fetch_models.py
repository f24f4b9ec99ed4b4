"""`jointdit fetch-models`: pretrained experts, and networks that measure, from the Hugging Face Hub, after consent."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.published import EXPERTS, MODELS, NETWORKS
from ..errors import InputError

if TYPE_CHECKING:
    from ..checkpoints.hub import Download


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = (
        "Fetch pretrained models from the Hugging Face Hub: exactly the files that are needed, weights as safetensors "
        "and in half precision where they are published so. Files, sizes and licences are shown first. An interrupted "
        "download resumes when the same command is given again. HF_ENDPOINT names another hub."
    )
    parser = commands.add_parser(
        "fetch-models", help="fetch pretrained models, after asking", description=text, allow_abbrev=False
    )
    measuring = f"for `jointdit evaluate --features`: {', '.join(NETWORKS)}"
    parser.add_argument("models", metavar="MODEL", nargs="+", help=f"one or more of {', '.join(EXPERTS)}; {measuring}")
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help="folder for them, such as ComfyUI's models/diffusers (default: the Hugging Face cache)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--full", action="store_true", help="weights in full precision, twice the size")
    form.add_argument(
        "--single-file",
        action="store_true",
        help="the checkpoint as one file in full precision, for ComfyUI's models/checkpoints",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list the files, their sizes and licences")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error, and warnings")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Lists what there is to fetch, asks, fetches, and prints the path of each model."""
    names = list(dict.fromkeys(arguments.models))
    if unknown := [name for name in names if name not in MODELS]:
        raise InputError(f"MODEL {unknown[0]}: give one or more of {', '.join(MODELS)}")
    if not (arguments.yes or arguments.dry_run or sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError("there is no terminal to ask on; add --yes to fetch without asking, or --dry-run to list")

    from ..checkpoints.download import check_place, fetch
    from ..checkpoints.hub import check_access, look_up
    from .progress import Progress, hushed_hub

    with hushed_hub():
        downloads = [look_up(name, arguments.to, not arguments.full, arguments.single_file) for name in names]
        for download in downloads:
            _show(download)
        if arguments.dry_run:
            return
        check_place(*downloads)
        for download in downloads:
            if not download.is_complete:
                check_access(download)
        _ask(downloads, arguments.yes)
        with Progress(arguments.quiet, unit="B", unit_scale=True) as progress:
            for name, download in zip(names, downloads, strict=True):
                fetch(download, lambda done, total, name=name: progress(name, done, total))
    for download in downloads:
        print(download.target)


def _show(download: Download) -> None:
    from ..checkpoints.hub import in_bytes

    terms = " and must be accepted there" if download.gated else ""
    if download.licence:
        print(f"{download.repository}, licence {download.licence}, which is on {download.page}{terms}")
    else:
        print(f"{download.repository}, for which the hub names no licence; what holds is on {download.page}{terms}")
    if download.pinned:
        print(f"  commit {download.commit}, where its weights are safetensors")
    for file in download.files:
        print(f"  {in_bytes(file.size):>9}  {file.path}")
    here = f", {in_bytes(download.size - download.missing)} of them here" if download.missing < download.size else ""
    print(f"  {in_bytes(download.size):>9}  in all{here}, to {download.target}")


def _ask(downloads: list[Download], yes: bool) -> None:
    """Raises InputError if the answer is no. Nothing is asked if nothing is missing."""
    from ..checkpoints.hub import in_bytes

    missing = sum(download.missing for download in downloads)
    if yes or not missing:
        return
    print(f"Fetch {in_bytes(missing)} under these licences? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InputError("not confirmed; nothing was fetched")
