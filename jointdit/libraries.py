"""The first import of diffusers, for those who import what needs it: without the network.

diffusers imports bitsandbytes where that is installed, and on some processors bitsandbytes fetches a kernel from the
Hub while it is imported, if the package kernels is there as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants


@contextmanager
def offline() -> Iterator[None]:
    """huggingface_hub refuses to ask the Hub in this block."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


with offline():
    from diffusers.models import modeling_utils  # noqa: F401
