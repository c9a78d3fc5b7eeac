"""Which tests run in one process of pytest-xdist, and which run first.

Not by `--dist loadgroup`: pytest-xdist 3.8 with pytest 9.2 ignores its marks (pytest-xdist issue 1386).
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

BROWSER = "tests/browser"
NBVAL = "tests/test_notebooks.py::test_every_stored_output_is_what_a_fresh_run_gives"
PHOTOGRAPHS = "tests/experiments/test_sequence.py::test_photographs_reach_the_documented_accuracy"
LONGEST_FIRST = (NBVAL, BROWSER, "tests/finetuning/test_finetune.py", PHOTOGRAPHS)


def group(nodeid: str) -> str:
    """Return the group of a test: its file, so that module-scoped fixtures are set up once.

    All of tests/browser is one group, since its files share JupyterLab; the longest tests need no fixture and run alone.
    """
    if nodeid.startswith(f"{BROWSER}/"):
        return BROWSER
    return nodeid if nodeid in LONGEST_FIRST else nodeid.partition("::")[0]


def sort(items: list[pytest.Item]) -> None:
    """Sort tests by group: the longest groups, other groups with slow tests, the rest."""
    slow = {group(item.nodeid) for item in items if item.get_closest_marker("slow")}
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}

    def rank(item: pytest.Item) -> int:
        name = group(item.nodeid)
        return ranks.get(name, len(ranks) if name in slow else len(ranks) + 1)

    items.sort(key=rank)


class GroupScheduling(LoadScopeScheduling):
    """Sends each group to one process, in the order of `sort`."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
