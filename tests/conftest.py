"""Fixtures for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from comfyui_process import MISSING, Server, furnish
from offline import offline  # noqa: F401, a fixture for every test

torch.set_num_threads(1)  # the tensors of tests are tiny: more threads only wait for each other
SHARED_MEDIA = Path(__file__).parents[2] / "shared" / "media"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--examples", type=int, help="generated cases of each property, drawn anew; default: few, fixed")


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> int | None:
    """How many cases a property is tried on; None for its few fixed ones."""
    return request.config.getoption("--examples")


@pytest.fixture(scope="session")
def shared_media() -> Path:
    """Folder of real photos (`images`) and sounding videos (`videos`) beside the repository."""
    if not SHARED_MEDIA.is_dir():
        pytest.skip(f"no sample media in {SHARED_MEDIA}")
    return SHARED_MEDIA


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real ComfyUI for all tests."""
    if MISSING:
        pytest.skip(MISSING)
    base = tmp_path_factory.mktemp("comfyui")
    furnish(base)
    server = Server(base)
    yield server
    server.stop()
