"""The most memory that a program ever had."""

import re
import resource
from pathlib import Path


def peak_memory() -> int:
    """Bytes that were resident at most since this program was started.

    Not `ru_maxrss` where there is another source: Linux begins it at what the program had that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
