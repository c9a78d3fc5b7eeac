"""Write the manifest of the demo set: `python -m imgclf.collect.demo`, run in the root of the repository."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .catalogue import entries, manifest_line

MANIFEST = Path("data_manifest/fashion_texture.tsv")


def main() -> None:
    """Render every image and write its sha256 into the manifest."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        lines = list(threads.map(manifest_line, entries()))
    partial = MANIFEST.with_suffix(".partial")
    partial.write_bytes("".join(["label\tsource\tsha256\tfile_name\n", *lines]).encode())
    partial.replace(MANIFEST)
    print(f"{MANIFEST}: {len(lines)} entries")


if __name__ == "__main__":
    main()
