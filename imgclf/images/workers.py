"""Work in other processes and on other machines, through a cluster of Dask; without one, in this process.

Pieces of work are functions of files, bytes and settings alone, so any worker may compute each, also twice.
"""

import asyncio
import hashlib
import json
import logging
import math
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from joblib import cpu_count

from imgclf import ImgclfError, __version__
from imgclf.images.loading import Source, Unseen, in_parallel

if TYPE_CHECKING:
    from distributed import Client, Future
    from distributed.security import Security

T = TypeVar("T")
R = TypeVar("R")
MODULE = "imgclf.images.workers"
LOCAL = "local:"
HTTP_ADDRESS = "127.0.0.1:0"  # of the pages about local workers; any free port
CONNECT_SECONDS = 5.0
REFRESH_SECONDS = 5.0  # after which the workers are counted again
PIECE_ITEMS = 64  # at most: about a second of work
PIECES_PER_PROCESS = 4  # at least, if there are enough items: the last ones end at about the same time
UNKNOWN_CODE = ("No module named", "Can't get attribute", "Error during deserialization")  # in errors of Dask
AHEAD = 3  # pieces for each process of the cluster that are with it, or done and not yet taken
SENT_BYTES = 2**23  # of images in one message, if workers do not see their files
MOST_AHEAD = 1_000  # pieces, each with a thread of this process that waits for it
# In other versions they decode and compute otherwise; "" where one is missing.
DECIDING = (
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "openvino",
    "pillow",
    "pillow-heif",
    "scikit-learn",
    "torch",
)
CERTIFICATES = {  # of Dask's class Security, and the variables that set them
    "tls_ca_file": "DASK_DISTRIBUTED__COMM__TLS__CA_FILE",
    "tls_client_cert": "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT",
    "tls_client_key": "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY",
}
_one_piece = Lock()  # at once in a worker, since each uses all cores


class Workers:
    """The workers of a cluster; without one, this process. It connects when there is something to do.

    Attributes
    ----------
    cluster : parameter of that name: an address, "local:N", or empty.
    """

    def __init__(self, cluster: str = "") -> None:
        self.cluster = cluster
        self._stack, self._lock, self._here = ExitStack(), Lock(), Lock()
        self._client: Client | None = None
        self._futures: set[Future[Any]] = set()
        self._is_stopped = False
        self._sends_files = False
        self._counted, self._counted_at = [1], -math.inf  # threads of each process; by time.monotonic

    def stream(
        self, function: Callable[[Any, Sequence[T]], Iterator[R]], items: Sequence[T], *, shared: Any = None
    ) -> Generator[R]:
        """Yield the results of `function(shared, items)`; the cluster computes the items in pieces.

        Results come in the order of the items, as far as `function` keeps it. Without a cluster, and after
        it was lost, this process computes.

        Parameters
        ----------
        function : at the top of a module, perhaps with `functools.partial`; it yields a result for each item.
        items : `Source`s are read by the workers that see the same files, and are sent to the others.
        shared : sent to each worker once; what is large, as a network.

        Raises
        ------
        ImgclfError : of `function`; or see `threads`.
        """
        processes = self.processes() if items else 1
        if not self.cluster or not items:
            yield from function(shared, items)
            return
        held = self._held(shared)
        size = max(1, min(PIECE_ITEMS, len(items) // (PIECES_PER_PROCESS * processes)))

        def results(piece: Sequence[T]) -> list[R]:
            with suppress(Lost):
                return self._piece(function, held, piece)
            with self._here:  # the function uses all cores
                if self._is_stopped:
                    raise CancelledError
                return list(function(shared, piece))

        pieces = in_parallel(
            results,
            (items[start : start + size] for start in range(0, len(items), size)),
            threads=MOST_AHEAD,
            ahead=lambda: min(MOST_AHEAD, AHEAD * self.processes()),
        )
        try:
            for found in pieces:
                yield from found
        finally:
            if held is not None:
                held.release()

    def call(self, function: Callable[..., R], *arguments: Any) -> R:
        """Return `function(*arguments)` as a worker computes it; may be called from several threads.

        Raises
        ------
        Lost : there is no cluster, or none any more: compute it here.
        ImgclfError : of `function`; the workers lack imgclf or have another version; several workers died
            while they computed it; or see `threads`.
        """
        client = self._connected()
        future = None
        try:
            future = client.submit(_attempt, _versions(), function, *arguments, pure=False)
            self._futures.add(future)
            self._wait(future)
            result: R = future.result()
            return result
        except Exception as error:
            if self._is_stopped:
                raise CancelledError from None
            if isinstance(error, CancelledError) or client.status != "running":
                self._lose(client)
                raise Lost from None
            if explained := _explained(error, self.cluster):
                raise explained from error
            raise
        finally:
            if future is not None:
                self._futures.discard(future)
                future.release()

    def _wait(self, future: "Future[Any]") -> None:
        """Wait until a future is done; say so if no worker is left meanwhile."""
        while True:
            try:
                # `result` with a timeout would cancel the transfer of results that all threads share.
                future.exception(REFRESH_SECONDS)
            except TimeoutError:
                self._threads_of_processes()
            else:
                return

    def everywhere(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a quick function in each worker, beside what it computes; without a cluster in none."""
        with suppress(Exception):  # it is lost
            if self._client and self._client.status == "running":
                self._client.run(function, *arguments)

    def threads(self) -> int:
        """Return how many threads the workers of the cluster have; 1 without one, and before it has workers.

        Raises
        ------
        ImgclfError : Dask is not installed, or no scheduler answers.
        """
        return max(1, sum(self._threads_of_processes()))

    def processes(self) -> int:
        """Return how many processes compute, each one piece at a time; otherwise as `threads`."""
        return max(1, len(self._threads_of_processes()))

    def _threads_of_processes(self) -> list[int]:
        """Return the number of threads of each worker process, counted again after `REFRESH_SECONDS`."""
        try:
            client = self._connected()
        except Lost:
            return []
        with self._lock:
            if time.monotonic() - self._counted_at < REFRESH_SECONDS:
                return self._counted
            self._counted_at = time.monotonic()
        try:
            counted = list(client.nthreads().values())
        except Exception:  # Dask has many for a scheduler that is gone
            self._lose(client)
            return []
        if self._counted and not counted:
            print(
                f"cluster='{self.cluster}' has no workers; waiting for them (Ctrl-C, then cluster='', goes "
                "on without)",
                flush=True,
            )
        self._counted = counted
        return counted

    def stop(self) -> None:
        """Cancel all work that is with the cluster, and leave it."""
        self._is_stopped = True
        client, self._client = self._client, None
        with suppress(Exception):  # it may be gone
            if client and client.status == "running":
                client.cancel(list(self._futures), force=True)
        self._stack.close()

    def _connected(self) -> "Client":
        with self._lock:
            if self._is_stopped:
                raise CancelledError
            if not self.cluster:
                raise Lost
            if self._client is None:
                self._client = _connected_client(self.cluster, self._stack)
            return self._client

    def _lose(self, client: "Client") -> None:
        """Go on without the cluster."""
        with self._lock:
            if self._client is client and self.cluster:
                print(f"cluster='{self.cluster}' is lost; this machine goes on alone", flush=True)
                self.cluster = ""

    def _held(self, shared: Any) -> "Future[Any] | None":
        """Return what the cluster keeps of `shared`: a task, which another worker repeats if one dies."""
        if shared is None:
            return None
        key = f"imgclf-{hashlib.sha256(pickle.dumps(shared)).hexdigest()}"
        with suppress(Exception):  # lost: the first piece says so
            return self._connected().submit(_itself, shared, key=key)
        return None

    def _piece(
        self,
        function: Callable[[Any, Sequence[T]], Iterator[R]],
        held: "Future[Any] | None",
        piece: Sequence[T],
    ) -> list[R]:
        def computed(prepare: Callable[[Source], Source]) -> list[R]:
            parts = _messages(piece, prepare)
            return [result for part in parts for result in self.call(_listed, function, held, part)]

        if not self._sends_files:
            try:
                return computed(Source.marked)
            except Unseen as unseen:
                self._send_files(unseen)
        return computed(Source.with_content)

    def _send_files(self, unseen: Unseen) -> None:
        with self._lock:
            if not self._sends_files:
                self._sends_files = True
                print(f"{unseen}; this machine sends the images to the workers", flush=True)


HERE = Workers()


class Lost(Exception):
    """There is no cluster, or none any more."""


@contextmanager
def connected(cluster: str) -> Iterator[Workers]:
    """Yield the workers of a cluster for a block; at its end, however it comes, none of its work is left.

    Parameters
    ----------
    cluster : "" for this process; "tcp://HOST:PORT" or "tls://HOST:PORT" of a scheduler of Dask; "local:N"
        for N processes on this machine, which end with the block.
    """
    workers = Workers(cluster)
    try:
        yield workers
    finally:
        workers.stop()


def _listed(function: Callable[[Any, Sequence[T]], Iterator[R]], shared: Any, items: Sequence[T]) -> list[R]:
    with _one_piece:
        return list(function(shared, items))


def _itself(shared: T) -> T:
    return shared


def _attempt(versions: Mapping[str, str], function: Callable[..., R], *arguments: Any) -> R:
    """Return `function(*arguments)`, in a worker that has the same versions of what decides the results."""
    for name, here in _versions().items():
        if here != versions[name]:
            raise ImgclfError(
                f"a worker of the cluster has {name} {here or 'not installed'}, this machine "
                f"{versions[name] or 'has not'}; install the same, see docs/cluster.md"
            )
    return function(*arguments)


@cache
def _versions() -> dict[str, str]:
    """Return the versions of imgclf and of `DECIDING`; a package for GPUs counts as that for processors."""
    found = dict.fromkeys(DECIDING, "")
    for name in (*DECIDING, *(f"{name}-gpu" for name in DECIDING)):
        with suppress(metadata.PackageNotFoundError):
            found[name.removesuffix("-gpu")] = metadata.version(name).partition("+")[0]
    return {"imgclf": __version__, **found}


def _messages(items: Sequence[T], prepare: Callable[[Source], Source]) -> Iterator[list[T | Source]]:
    """Yield items, their files prepared; so many at once as one message holds of contents."""
    part: list[T | Source] = []
    size = 0
    for item in items:
        sent = prepare(item) if isinstance(item, Source) else item
        part.append(sent)
        size += len(sent.encoded or b"") if isinstance(sent, Source) else 0
        if size >= SENT_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _explained(error: Exception, cluster: str) -> ImgclfError | None:
    """Return an error of the cluster in our words; None for one of the work itself."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return ImgclfError(
            f"cluster='{cluster}': several workers died while they computed the same piece of work, mostly "
            "for lack of memory; give them more, or set cluster=''"
        )
    if any(text in str(error) for text in UNKNOWN_CODE):
        return ImgclfError(
            f"cluster='{cluster}': its scheduler or a worker lacks imgclf, or has another version of it, of "
            f"Dask or of Python; install imgclf[cluster] {__version__} there"
        )
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _connected_client(cluster: str, stack: ExitStack) -> "Client":
    try:
        import dask
        from distributed import Client
        from distributed.security import Security
        from distributed.utils import silence_logging_cmgr
    except ImportError as error:
        raise ImgclfError(
            f"cluster='{cluster}': Dask is not installed; pip install 'imgclf[cluster]', or set cluster=''"
        ) from error
    address, security = cluster, Security()
    if cluster.startswith(LOCAL):
        address, keys = stack.enter_context(_local_cluster(int(cluster.removeprefix(LOCAL))))
        security = Security(require_encryption=True, **keys)
    elif cluster.startswith("tls://"):
        _check_certificates(cluster, security)
    # A network or images may have more than the 10 MB from which on Dask warns.
    stack.enter_context(dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}))
    stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook has a running event loop
            thread.submit(asyncio.run, _answer(address, security)).result()
        client = Client(address, security=security, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ImgclfError(
            f"cluster='{cluster}': no scheduler answers there ({_first_line(error)}); start one, see "
            "docs/cluster.md, or set cluster=''"
        ) from error
    stack.callback(_close, client)
    return client


def _check_certificates(cluster: str, security: "Security") -> None:
    """Raise an error that names the first of `CERTIFICATES` that is missing; Dask's names none."""
    for attribute, variable in CERTIFICATES.items():
        value = getattr(security, attribute) or ""  # a path, or the certificate itself
        is_with_certificate = attribute == "tls_client_key" and not value
        if "\n" not in value and not is_with_certificate and not Path(value).is_file():
            place = f"there is no file {Path(value).absolute()}" if value else "it is not set"
            raise ImgclfError(
                f"cluster='{cluster}': the variable {variable} must name a file with a certificate or key, "
                f"and {place}; see docs/cluster.md"
            )


async def _answer(address: str, security: "Security") -> None:
    """Connect once; a `Client` that cannot complains once more when it is deleted."""
    from distributed.comm.core import connect

    comm = await connect(address, CONNECT_SECONDS, **security.get_connection_args("client"))
    await comm.close()


def _close(client: "Client") -> None:
    with suppress(Exception):  # the scheduler is gone
        client.close(timeout=CONNECT_SECONDS)


@contextmanager
def _local_cluster(count: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a scheduler and workers on this machine; yield its address, and the keys that a client needs.

    They end with the block, or when this process ends, however it does.
    """
    command = [sys.executable, "-P", "-m", MODULE, str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        try:
            line = process.stdout.readline()
            if not line:
                raise ImgclfError(f"cluster='{LOCAL}{count}': its processes do not start; set cluster=''")
            started = json.loads(line)
            yield started.pop("address"), started
        finally:
            process.stdin.close()


def main(count: int) -> None:
    """Run a scheduler and workers, for `_local_cluster`, until standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the notebook acts on it
    from distributed import LocalCluster
    from distributed.security import Security

    share = str(max(1, cpu_count() // count))
    threads = ("LOKY_MAX_CPU_COUNT", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    security = Security.temporary()  # other users of this machine reach the port, too
    with LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        dashboard_address=HTTP_ADDRESS,
        worker_dashboard_address=HTTP_ADDRESS,
        memory_limit=0,
        security=security,
        env=dict.fromkeys(threads, share),
        silence_logs=logging.CRITICAL,
    ) as cluster:
        keys = {name: getattr(security, name) for name in CERTIFICATES}
        print(json.dumps({"address": cluster.scheduler_address, **keys}), flush=True)
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
