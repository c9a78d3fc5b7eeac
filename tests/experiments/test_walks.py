"""Random walks: whatever happens between the notebooks, 05 gives what a fresh run gives, or refuses."""

from pathlib import Path

import pytest

from support import walks


@pytest.mark.slow
def test_05_gives_what_a_fresh_run_gives_or_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    walks.check_walks(tmp_path, monkeypatch, walks=12, steps=8, seed=0, seconds=0)
