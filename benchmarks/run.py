"""Seconds of `imgclf run --from 00` on the demo set: with an empty data folder, and again."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "IMGCLF_DATA": folder}
        for name in ("empty data folder", "again"):
            start = time.perf_counter()
            subprocess.run(
                [Path(sys.executable).parent / "imgclf", "run", "--from", "00"],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            print(f"imgclf run, demo set, {name}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
