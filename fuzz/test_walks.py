"""Random walks through the notebooks, with changes of files between them; see `support.walks`."""

from pathlib import Path

import pytest

from support import walks


def test_05_gives_what_a_fresh_run_gives_or_refuses(fuzz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    walks.check_walks(
        tmp_path, monkeypatch, walks=5, steps=20, seed=fuzz.seed * 1_000_000, seconds=fuzz.seconds
    )
