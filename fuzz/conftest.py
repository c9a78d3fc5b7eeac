"""Fuzzing: random input from a seed until the time is up; `make fuzz`.

Each test is a claim about one input: file names and their content. The input that is tried lies in
fuzz/findings/NAME, where it stays after a failure (then it is the smallest that hypothesis found), a crash, or a
hang (which ends the process, see traceback_of_a_hang.txt). What failed is tried first by the next run.
"""

import faulthandler
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from imgclf import ImgclfError

Input = dict[str, bytes]
FINDINGS = Path(__file__).parent / "findings"
# For one input:
HANG_SECONDS = 60
CPU_SECONDS = 5
MEMORY_MB = 300  # more than before
ADDRESS_SPACE = 12 << 30  # bytes: a bomb raises MemoryError, and the machine survives
SETTINGS = hypothesis.settings(
    max_examples=200,
    deadline=None,
    report_multiple_bugs=False,
    phases=set(hypothesis.Phase) - {hypothesis.Phase.explain},
    suppress_health_check=list(hypothesis.HealthCheck),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seconds", type=float, default=600, help="for all tests of fuzz/ together")
    parser.addoption("--seed", type=int, default=0)


@dataclass
class Fuzzer:
    """Tries inputs for some seconds; see `__call__`."""

    name: str
    seconds: float
    seed: int
    uncaptured: Callable[[], AbstractContextManager]
    outcomes: Counter[str] = field(default_factory=Counter)

    def __call__(self, inputs: st.SearchStrategy[Input], claim: Callable[[Input], str | None]) -> None:
        """Check that a claim holds for inputs, or raises an ImgclfError, in bounded time and memory.

        Parameters
        ----------
        claim : may return a word under which its inputs are counted.
        """
        found = FINDINGS / self.name
        found.mkdir(parents=True, exist_ok=True)
        with (found / "traceback_of_a_hang.txt").open("w") as hung:

            def check(files: Input) -> None:
                for name, content in files.items():
                    (found / name).write_bytes(content)
                hypothesis.note(f"the input is in {found}")
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=hung)
                self.bounded(claim, files)
                faulthandler.cancel_dump_traceback_later()

            end, seed = time.monotonic() + self.seconds, self.seed * 1_000_000
            while time.monotonic() < end:
                hypothesis.seed(seed)(SETTINGS(hypothesis.given(inputs)(check)))()
                seed += 1
        shutil.rmtree(found)
        with self.uncaptured():
            print(
                f"\n{self.name}: {self.outcomes.total()} inputs in {self.seconds:.0f} s, {dict(self.outcomes)}"
            )

    def bounded(self, claim: Callable[[Input], str | None], files: Input) -> None:
        before, start = memory_mb("VmRSS"), time.process_time()
        try:
            self.outcomes[claim(files) or "accepted"] += 1
        except ImgclfError:
            self.outcomes["refused"] += 1
        assert time.process_time() - start < CPU_SECONDS
        assert memory_mb("VmHWM") - before < MEMORY_MB


def memory_mb(what: str) -> float:
    """Memory of this process, in 10^6 bytes; reading the present one (VmRSS) resets the peak (VmHWM)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    if what == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024 / 1e6


@pytest.fixture(scope="session", autouse=True)
def limited_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, resource.RLIM_INFINITY))


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$IMGCLF_DATA, empty."""
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzzer:
    capture = request.config.pluginmanager.getplugin("capturemanager")
    tests = [item for item in request.session.items if "fuzz" in item.fixturenames]
    return Fuzzer(
        request.node.name.removeprefix("test_"),
        request.config.getoption("--seconds") / len(tests),
        request.config.getoption("--seed"),
        capture.global_and_fixture_disabled,
    )
