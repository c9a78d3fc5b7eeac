"""Scan a data set, and wait to be killed when some images are done; started by test_scan_cache.py."""

import sys
import time
from pathlib import Path

from imgclf.data import scan

if __name__ == "__main__":
    dataset_name, folder, most = sys.argv[1:]

    def wait(done: int) -> None:
        if done == int(most):
            print(done, flush=True)
            time.sleep(600)

    scan.scan_folder(dataset_name, Path(folder), progress=wait)
