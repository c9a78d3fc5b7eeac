"""The service under load, compared with `mlflow models serve` on the same model and with the bare model, in one run.

Usage: service.py [DATA_FOLDER]: the data folder of an `imgclf run`; without it, the demo set is run first. Rounds are interleaved, so that
another process on the machine slows all alike. Requests to MLflow hold preprocessed pixels as JSON, prepared beforehand, which a client
would have to do too; requests to the service hold JPEGs, which it decodes. The bare model decodes and scores in this process.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock, local

import httpx
import numpy as np
import photographs

from imgclf import engines
from imgclf.classifier.model import TOLERANCE, Classifier, largest_relative_difference
from imgclf.images.loading import load_all

BIN = Path(sys.executable).parent
IMAGES = 128
CALLERS = (1, 4, 16)
ROUNDS = 3
REQUESTS = {"service": 200, "mlflow": 50, "bare": 200}  # a round
MANY = 10_000
EARLY = 1_000  # requests before the first measurement of memory
AT_ONCE = 60  # concurrent requests when SIGTERM is sent
MLFLOW_PORT = 5077

Ask = Callable[[int], np.ndarray]  # returns the scores of the image with this number


@dataclass(frozen=True)
class Load:
    """Latency of each response, (n,) seconds; wall time, seconds; and the number of lost and of wrong responses."""

    seconds: np.ndarray
    wall: float
    lost: int = 0
    wrong: int = 0

    @property
    def throughput(self) -> float:
        """Responses per second."""
        return len(self.seconds) / self.wall

    def percentile(self, share: float) -> float:
        """Latency percentile in milliseconds; `share` is 0 to 100."""
        return 1000 * float(np.percentile(self.seconds, share))


def load(ask: Ask, expected: np.ndarray, *, requests: int, callers: int) -> Load:
    """Send `requests` requests from `callers` threads, and compare each response with `expected`, (images, k) scores."""
    numbers, seconds, faults = count(), [], []

    def call() -> None:
        while (number := next(numbers)) < requests:
            start = time.perf_counter()
            try:
                scores = ask(number % len(expected))
            except httpx.HTTPError as error:
                faults.append(error)
                continue
            seconds.append(time.perf_counter() - start)
            if (
                scores.argmax() != expected[number % len(expected)].argmax()
                or largest_relative_difference(scores, expected[number % len(expected)]) > TOLERANCE["f32"]
            ):
                faults.append(None)

    start = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        for future in [pool.submit(call) for _ in range(callers)]:
            future.result()
    wrong = sum(fault is None for fault in faults)
    return Load(np.array(seconds), time.perf_counter() - start, len(faults) - wrong, wrong)


def joined(loads: list[Load]) -> Load:
    """Return several rounds as one."""
    return Load(
        np.concatenate([one.seconds for one in loads]),
        sum(one.wall for one in loads),
        sum(one.lost for one in loads),
        sum(one.wrong for one in loads),
    )


def http_asker(
    url: str, contents: list[bytes], content_type: str, scores: Callable[[dict], list[float]]
) -> Ask:
    """Return a function that posts an image to a server; each thread has its own connection."""
    mine = local()

    def ask(number: int) -> np.ndarray:
        if not hasattr(mine, "client"):
            mine.client = httpx.Client(timeout=120)
        payload = (
            mine.client.post(url, content=contents[number], headers={"Content-Type": content_type})
            .raise_for_status()
            .json()
        )
        return np.array(scores(payload))

    return ask


def bare_asker(model: Path, contents: list[bytes]) -> Ask:
    """Return a function that decodes and scores in this process; a lock gives the model to one thread at a time."""
    loaded, turn = Classifier.load(model, batch_size=1), Lock()

    def ask(number: int) -> np.ndarray:
        pixels = loaded.preprocessing.apply(contents[number])
        with turn:
            return loaded.scores(pixels[None])[0][0]

    return ask


@contextmanager
def service(model: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run `imgclf serve`; yield the process and its URL."""
    server = subprocess.Popen(
        [BIN / "imgclf", "serve", model, "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        yield server, re.search(r"http://\S+", server.stderr.readline())[0]
    finally:
        server.terminate()
        server.wait()


@contextmanager
def mlflow(model: Path, folder: Path) -> Iterator[str]:
    """Run `mlflow models serve` on the same file, as in docs/serving.md; yield its URL."""
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{BIN}:{os.environ['PATH']}"}
    page = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    save = next(
        block
        for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        if "save_model" in block
    )
    (folder / "classifier.onnx").write_bytes(model.read_bytes())
    subprocess.run([sys.executable, "-c", save], cwd=folder, env=environment, check=True)
    server = subprocess.Popen(
        [
            BIN / "mlflow",
            "models",
            "serve",
            "--model-uri",
            "mlflow_model",
            "--env-manager",
            "local",
            "--port",
            str(MLFLOW_PORT),
        ],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{MLFLOW_PORT}"
        while not _is_ready(f"{url}/ping"):
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.ConnectError:
        return False


def predicted(model: Path, paths: list[Path]) -> np.ndarray:
    """Return the scores that `imgclf predict` prints, (images, k)."""
    printed = subprocess.run(
        [BIN / "imgclf", "predict", "--json", "--model", model, *paths],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return np.array([list(answer["scores"].values()) for answer in json.loads(printed)])


def resident_mb(process: subprocess.Popen) -> float:
    """Resident memory of a process, MB (Linux)."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def compare(askers: dict[str, Ask], expected: np.ndarray) -> None:
    """Print throughput and latency of all, for each number of callers."""
    for ask in askers.values():
        load(ask, expected, requests=10, callers=1)  # the first requests are slower
    for callers in CALLERS:
        rounds = [
            {
                name: load(ask, expected, requests=REQUESTS[name], callers=callers)
                for name, ask in askers.items()
            }
            for _ in range(ROUNDS)
        ]
        total = {name: joined([one[name] for one in rounds]) for name in askers}
        for name, one in total.items():
            print(
                f"{callers:>2} callers, {name:<8} {one.throughput:6.1f} responses/s  p50 {one.percentile(50):6.0f} ms  p99 {one.percentile(99):6.0f} ms  "
                f"lost {one.lost}, wrong {one.wrong}",
                flush=True,
            )
        ratio, late = (
            total["service"].throughput / total["mlflow"].throughput,
            total["service"].percentile(99) / total["bare"].percentile(99),
        )
        print(
            f"{callers:>2} callers: {ratio:.1f} x the throughput of mlflow; p99 is {late:.2f} x that of the bare model",
            flush=True,
        )


def endurance(server: subprocess.Popen, ask: Ask, expected: np.ndarray) -> None:
    """Print how many of many requests are lost, and memory before and after."""
    first = load(ask, expected, requests=EARLY, callers=CALLERS[-1])
    early = resident_mb(server)
    rest = load(ask, expected, requests=MANY - EARLY, callers=CALLERS[-1])
    all_of_them = joined([first, rest])
    print(
        f"{len(all_of_them.seconds)} responses to {MANY} requests: lost {all_of_them.lost}, wrong {all_of_them.wrong}, {all_of_them.throughput:.1f} per second"
    )
    print(
        f"memory of the service: {early:.0f} MB after {EARLY} requests, {resident_mb(server):.0f} MB after {MANY}",
        flush=True,
    )


def shut_down_under_load(model: Path, contents: list[bytes], expected: np.ndarray) -> None:
    """Print how many of the accepted requests are answered when the service gets SIGTERM."""
    with service(model) as (server, url), ThreadPoolExecutor(AT_ONCE) as pool:
        ask = http_asker(f"{url}/score", contents, "image/jpeg", own_scores)
        asked = [pool.submit(load, ask, expected, requests=1, callers=1) for _ in range(AT_ONCE)]
        while sum(counted := _accepted(url)) < AT_ONCE:
            time.sleep(0.005)
        server.send_signal(signal.SIGTERM)
        total = joined([future.result() for future in asked])
        print(
            f"SIGTERM with {counted[0]} of {AT_ONCE} requests in progress: {len(total.seconds)} answered, lost {total.lost}, wrong {total.wrong}; "
            f"exit {server.wait()}"
        )


def _accepted(url: str) -> tuple[int, int]:
    """Return the number of requests in progress, and of answered ones."""
    text = httpx.get(f"{url}/metrics").text
    counts = [
        re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        for name in ("imgclf_requests_under_way", r'imgclf_requests_total{status="200"}')
    ]
    under_way, answered = (int(float(match[1])) if match else 0 for match in counts)
    return under_way, answered


def own_scores(answer: dict) -> list[float]:
    """Return the scores in a response of the service."""
    return list(answer["images"][0]["scores"].values())


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "data"
        if len(sys.argv) == 1:
            subprocess.run(
                [BIN / "imgclf", "run"],
                env={**os.environ, "IMGCLF_DATA": str(data)},
                check=True,
                stdout=subprocess.DEVNULL,
            )
        model = data / "proc" / "fashion_texture" / "classifier.onnx"
        paths = photographs.write(folder / "photographs", IMAGES)
        contents = [path.read_bytes() for path in paths]
        pixels = load_all(paths, engines.preprocessing(model))
        as_json = [json.dumps({"inputs": {"images": one[None].tolist()}}).encode() for one in pixels]
        expected = predicted(model, paths)
        with service(model) as (server, url), mlflow(model, folder) as mlflow_url:
            ask = http_asker(f"{url}/score", contents, "image/jpeg", own_scores)
            ask_mlflow = http_asker(
                f"{mlflow_url}/invocations",
                as_json,
                "application/json",
                lambda answer: answer["predictions"]["scores"][0],
            )
            compare({"service": ask, "mlflow": ask_mlflow, "bare": bare_asker(model, contents)}, expected)
            endurance(server, ask, expected)
        shut_down_under_load(model, contents, expected)


if __name__ == "__main__":
    main()
