import time
from collections import Counter

import pytest

from imgclf.collect.manifest import Entry
from imgclf.collect.schedule import MAX_CONSECUTIVE_FAILURES, PER_HOST, Schedule, host
from imgclf.downloads import PERMANENT, TRANSIENT, DownloadError


def entries(name, number):
    return [Entry("apple", f"http://{name}/{i}.jpg") for i in range(number)]


@pytest.mark.parametrize(
    "source, expected",
    [
        ("http://Photos.Example/a.jpg", "photos.example"),
        ("https://photos.example:8443/a.jpg", "photos.example:8443"),
        ("http://user:word@photos.example/a.jpg", "photos.example"),
        ("demo:dotted/1", ""),
        ("demo://dotted/1", ""),
        ("folder:dotted/1.jpg", ""),
        ("http://[::1", ""),
    ],
)
def test_host_of_a_source(source, expected):
    assert host(source) == expected


def test_hosts_take_turns():
    schedule = Schedule([*entries("a", 3), *entries("b", 2), *entries("c", 1)])
    taken = [host(schedule.take().source) for _ in range(6)]
    assert taken == ["a", "b", "c", "a", "b", "a"] and schedule.take() is None


def test_host_has_few_requests_at_once_and_gets_another_when_one_is_done():
    schedule = Schedule(entries("a", PER_HOST + 2))
    taken = [schedule.take() for _ in range(PER_HOST)]
    assert schedule.take() is None
    assert schedule.done(taken[0], None) == {}
    assert schedule.take() is not None and schedule.take() is None


def test_sources_without_a_host_have_no_limit():
    schedule = Schedule([Entry("apple", f"demo:{i}") for i in range(50)])
    assert all(schedule.take() for _ in range(50))


@pytest.mark.parametrize("kind, given_up", [(TRANSIENT, True), (PERMANENT, False)])
def test_host_is_given_up_after_failures_in_a_row_that_another_time_may_not_have(kind, given_up):
    listed = [*entries("a", 50), *entries("b", 50)]
    schedule, asked, left = Schedule(listed), Counter(), {}
    while entry := schedule.take():
        asked[host(entry.source)] += 1
        left |= schedule.done(entry, DownloadError("busy", kind) if host(entry.source) == "a" else None)
    assert asked == {"a": MAX_CONSECUTIVE_FAILURES if given_up else 50, "b": 50}
    assert len(left) == (40 if given_up else 0)
    assert all(problem.kind == TRANSIENT and "(busy)" in problem.reason for problem in left.values())


def test_a_success_in_between_keeps_a_host():
    schedule, taken = Schedule(entries("a", 100)), 0
    while entry := schedule.take():
        taken += 1
        is_good = taken % MAX_CONSECUTIVE_FAILURES == 0
        assert schedule.done(entry, None if is_good else DownloadError("busy", TRANSIENT)) == {}
    assert taken == 100


@pytest.mark.parametrize("hosts", [1, 200, 50_000])
def test_fifty_thousand_entries_take_a_moment(hosts):
    listed = [Entry("apple", f"http://h{i % hosts}.example/{i}.jpg") for i in range(50_000)]
    start = time.process_time()
    schedule, running, taken = Schedule(listed), [], set()
    while True:
        while len(running) < 16 and (entry := schedule.take()):
            running.append(entry)
        if not running:
            break
        taken.add(running[0])
        schedule.done(running.pop(0), None)
    assert taken == set(listed)
    assert time.process_time() - start < 20  # a second; work that grows with the square takes minutes
