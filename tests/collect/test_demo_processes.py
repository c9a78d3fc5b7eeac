"""Rendering the demo set in several processes."""

import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event

import psutil
import pytest

from imgclf.collect import demo
from imgclf.collect.demo import processes

SOURCES = ["demo:dotted/007", "demo:leopard/050", "demo:striped/191", "demo:dotted/gone-1"]


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(processes, "cpu_count", lambda: 2)


def renderers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if processes.MODULE in child.cmdline()]


def test_processes_respond_as_one_does_and_end_with_the_block():
    with processes.responses(437) as response, ThreadPoolExecutor(3) as threads:
        assert len(renderers()) == 2
        assert list(threads.map(response, SOURCES)) == [demo.response(source) for source in SOURCES]
    assert not renderers()


def test_a_few_images_are_rendered_without_processes():
    with processes.responses(6) as response:
        assert not renderers()
        assert response(SOURCES[0]) == demo.response(SOURCES[0])


@pytest.mark.parametrize("images", [6, 437])
def test_no_more_images_are_rendered_in_this_process_at_once_than_there_are_cores(monkeypatch, images):
    started: SimpleQueue[str] = SimpleQueue()
    go_on = Event()
    monkeypatch.setattr(demo, "response", lambda source: (started.put(source), go_on.wait(10)))
    with processes.responses(images) as response, ThreadPoolExecutor(4) as threads:
        for process in renderers():
            process.kill()
            process.wait()
        for _ in range(2):  # the first ones notice that their processes are dead
            threads.submit(response, SOURCES[0])
            started.get(timeout=10)
        rest = [threads.submit(response, SOURCES[0]) for _ in range(2)]
        assert wait(rest, 0.3).not_done == set(rest) and started.empty()
        go_on.set()


def test_an_image_whose_process_is_killed_is_rendered_all_the_same():
    with processes.responses(437) as response:
        for process in renderers():
            process.kill()
            process.wait()
        assert response(SOURCES[0]) == demo.response(SOURCES[0])


def test_a_reply_that_ctrl_c_interrupts_is_not_taken_for_the_next_one(monkeypatch):
    def interrupted(file: object) -> None:
        raise KeyboardInterrupt

    with processes.responses(437) as response:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(pickle, "load", interrupted)
            response(SOURCES[0])
        found = [response(source) for source in SOURCES[1:3]]  # by both processes
    assert found == [demo.response(source) for source in SOURCES[1:3]]


def test_a_process_whose_reply_nobody_reads_is_ended():
    program = [sys.executable, "-c", "print('much' * 100_000)"]
    with ThreadPoolExecutor(1) as thread:
        process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            thread.submit(processes._end, process).result(10)
        finally:
            process.kill()


CODE = """
from imgclf.collect.demo import processes
processes.cpu_count = lambda: 2
with processes.responses(437) as response:
    print(response("demo:dotted/gone-1").status, flush=True)
    input()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left_when_the_one_that_fetches_is_killed(end):
    program = [sys.executable, "-c", CODE]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as fetching:
        assert fetching.stdout and fetching.stdout.readline() == "404\n"
        children = psutil.Process(fetching.pid).children(recursive=True)
        assert len(children) >= 2
        fetching.send_signal(end)
    assert not psutil.wait_procs(children, timeout=20)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are of the C library of Linux")
def test_processes_keep_the_memory_of_an_image_for_the_next_one():
    def requests_of_memory(environment: dict[str, str]) -> int:
        work = (
            "import resource; from imgclf.collect import demo; "
            "[demo.response('demo:dotted/007') for _ in 'ab']; "
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt; demo.response('demo:dotted/007'); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
        )
        command = [sys.executable, "-c", work]
        return int(subprocess.check_output(command, env={**os.environ, **environment}))

    assert requests_of_memory(processes.ENVIRONMENT) < requests_of_memory({}) / 2


def test_processes_are_started_with_these_settings():
    with processes.responses(437):
        assert all(processes.ENVIRONMENT.items() <= child.environ().items() for child in renderers())
