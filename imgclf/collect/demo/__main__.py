"""Write the manifest of the demo set: `python -m imgclf.collect.demo`, run in the root of the repository."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .catalogue import entries, manifest_line

MANIFEST = Path("data_manifest/fashion_texture.tsv")


def main() -> None:
    """Render every picture once and write its sha256 into the manifest."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        lines = list(threads.map(manifest_line, entries()))
    unfinished = MANIFEST.with_suffix(".unfinished")
    unfinished.write_bytes("".join(["label\tsource\tsha256\tfile_name\n", *lines]).encode())
    unfinished.replace(MANIFEST)
    print(f"{MANIFEST}: {len(lines)} entries")


if __name__ == "__main__":
    main()
