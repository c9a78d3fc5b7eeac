"""What a notebook takes: the run time of its cells, and the peak memory of its process."""

import sys
import time
from typing import Any

from imgclf.experiments import outputs

UNKNOWN: dict[str, Any] = {"seconds": 0.0, "peak_memory_mb": 0.0}
_begun: dict[str, float] = {}  # monotonic time of the first cell in this process, by number of the notebook


def begin(number: str) -> None:
    """Measure from now on what a notebook takes; called in its first code cell."""
    outputs.watch()
    _begun[number] = time.monotonic()


def measured(number: str) -> dict[str, Any]:
    """Return what a notebook took since `begin`, as attributes of a `provenance.Record`; 0 if unknown.

    Outside a kernel, `seconds` also counts the time between its cells.
    """
    if number not in _begun:
        return UNKNOWN
    seconds = outputs.seconds() or time.monotonic() - _begun[number]
    return {"seconds": round(seconds, 3), "peak_memory_mb": round(_peak_memory_mb(), 1)}


def _peak_memory_mb() -> float:
    try:
        import resource
    except ModuleNotFoundError:  # on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # there in bytes, elsewhere in KiB
