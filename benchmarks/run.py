"""Seconds and processor seconds of `imgclf run --from 00` on the demo set: with an empty data folder, and again."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def processor_seconds() -> float:
    """Of all processes that this one started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "IMGCLF_DATA": folder}
        for name in ("empty data folder", "again"):
            start, before = time.perf_counter(), processor_seconds()
            subprocess.run(
                [Path(sys.executable).parent / "imgclf", "run", "--from", "00"],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            print(
                f"imgclf run, demo set, {name}: {time.perf_counter() - start:.0f} s, "
                f"{processor_seconds() - before:.0f} processor seconds"
            )


if __name__ == "__main__":
    main()
