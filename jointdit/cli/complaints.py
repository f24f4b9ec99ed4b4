"""What a user is told about an error, in one line; what the user cannot correct is a bug and has none."""

from __future__ import annotations

import re

from ..errors import InputError

# PyTorch's on GPUs and on a CPU, and the operating system's.
OUT_OF_MEMORY = re.compile("out of memory|not enough memory|[Cc]an(?:'|no)t allocate memory")
CORRECTABLE = (InputError, OSError, MemoryError, RuntimeError)  # some of these are


def complaint(error: Exception) -> str | None:
    """What the user is told; None for a bug."""
    if is_memory(error):
        return f"memory ran out; ask for less at once ({error})"
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {str(error.strerror).lower()}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"the system refused ({str(error.strerror).lower()}); see to it and give the command again"
    if type(error).__name__ == "SafetensorError":  # not imported for its sake alone
        from ..media.files import system_reason

        if (reason := system_reason(error)) is not None:
            return f"the system refused ({reason}); see to it and give the command again"
    return None


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and bool(OUT_OF_MEMORY.search(str(error)))
