"""From an empty folder to a data set: what becomes of each of 1,050 results is exactly what `search_results` says."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

from imgclf import ImgclfError
from imgclf.annotation import findings
from imgclf.collect import attribution, fetch, manifest, queries, search
from imgclf.collect.fetch import FetchResult
from imgclf.collect.manifest import Entry
from imgclf.collect.search import SearchResult
from imgclf.data import dataset, scan
from imgclf.data.dataset import Dataset
from imgclf.experiments import execution, notebooks
from support import search_results, search_server
from support.search_results import ATTRIBUTES, OBJECTS, PER_QUERY, QUERIES, Result
from support.search_server import SearchServer

pytestmark = pytest.mark.slow

NAME = "own_images"
TRANSIENT = ("503 for ever", "connection breaks", "slow host")  # a later run tries these again


@dataclass(frozen=True)
class Collected:
    """A data set collected from the server, step by step."""

    server: SearchServer
    found: SearchResult
    entries: list[Entry]
    fetched: FetchResult
    folder: Path
    dataset: Dataset
    asked: Counter

    def result(self, entry: Entry) -> Result:
        return self.server.result_of(entry.source)

    def of_kind(self, *kinds: str) -> set[str]:
        """Paths of the stored images of results of these kinds."""
        names = fetch.stored(self.folder, set(ATTRIBUTES))
        return {
            f"{entry.label}/{names[fetch.key(entry)]}"
            for entry in self.entries
            if self.result(entry).kind in kinds
        }


def the_queries() -> list[queries.Query]:
    return queries.grid(", ".join(OBJECTS), ", ".join(ATTRIBUTES))


def search_for(server: SearchServer, *, commercial_use: bool = False, name: str = NAME) -> SearchResult:
    service = search.service("commons", url=server.url, commercial_use=commercial_use)
    return search.run(service, the_queries(), dataset_name=name, images_per_query=PER_QUERY)


@pytest.fixture(scope="module")
def server() -> Iterator[SearchServer]:
    with search_server.running() as running:
        yield running


@pytest.fixture(scope="module")
def collected(server: SearchServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collected]:
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLF_DATA", str(data))
        patch.setattr(fetch, "IMAGE_SECONDS", 3)  # of which the slow host uses all
        found = search_for(server)
        entries = manifest.read(search.write_manifest(found, NAME))
        folder = dataset.images_folder(NAME)
        fetched = fetch.fetch_images(entries, folder, private_addresses=True)
        scanned = scan.scan_folder(NAME, folder)
        yield Collected(server, found, entries, fetched, folder, scanned, server.asked.copy())


@pytest.fixture
def same_data(collected: Collected, monkeypatch: pytest.MonkeyPatch) -> Collected:
    """The collected data set with its data folder as $IMGCLF_DATA."""
    monkeypatch.setenv("IMGCLF_DATA", str(collected.folder.parents[1]))
    monkeypatch.setattr(fetch, "IMAGE_SECONDS", 1)
    return collected


def test_the_grid_has_the_tutorials_21_queries():
    assert {query.text: query.label for query in the_queries()} == QUERIES


def test_each_url_is_listed_once_with_the_label_of_the_query_in_which_it_ranks_best(collected):
    order = [query.text for query in the_queries()]
    listed = {collected.result(entry).path: entry.label for entry in collected.entries}
    assert listed == {result.path: result.label for result in search_results.listed(order)}
    assert len(listed) == len(collected.entries) == 1036


def test_the_search_says_how_many_it_found_and_which_images_have_several_labels(collected):
    assert "21 queries found 1,050 images, 1,036 " in str(collected.found)
    doubtful = {collected.server.result_of(hit.found.url).number for hit in collected.found.ambiguous}
    assert doubtful == {
        each.first for each in search_results.results() if each.kind == "same URL, other label"
    }


def test_each_image_has_its_licence_author_page_and_query(collected):
    for entry in collected.entries:
        result = collected.result(entry)
        asked = {each.query for each in search_results.results() if each.path == result.path}
        is_untold = not result.licence and result.number % 2  # the service has no metadata at all
        assert (entry.licence, entry.author) == (result.licence, "" if is_untold else result.author_text)
        assert entry.page == f"https://commons.wikimedia.org/wiki/File:{result.title.replace(' ', '_')}"
        assert set(entry.query.split(" | ")) == asked


def test_each_answer_of_the_service_is_asked_for_once_and_alone(collected):
    answers = {key: number for key, number in collected.asked.items() if isinstance(key, tuple)}
    again = {key for key, number in answers.items() if number > 1}
    assert {key[:2] for key in again} == {search_server.BUSY} and max(answers.values()) == 2
    assert collected.server.most_at_once == 1
    assert all(agent.startswith("imgclf/") for agent in collected.server.agents)


def test_a_search_for_commercial_use_lists_only_what_is_known_to_allow_it(server):
    order = [query.text for query in the_queries()]
    found = search_for(server, commercial_use=True)
    expected = [result.path for result in search_results.listed(order, commercial_use=True)]
    assert sorted(server.result_of(hit.found.url).path for hit in found.hits) == sorted(expected)
    assert len(expected) == 1016


def test_exactly_the_right_images_are_stored_as_they_were_served(collected):
    on_disk = contents(collected.folder)
    assert on_disk == Counter(
        (entry.label, hashlib.sha256(collected.result(entry).content).hexdigest())
        for entry in collected.entries
        if not collected.result(entry).failure
    )
    assert collected.fetched.fetched == on_disk.total() == 959


def test_no_name_of_a_url_leads_out_of_the_label_folder(collected):
    data = collected.folder.parents[1]
    files = {path.relative_to(data).parts[:2] for path in data.rglob("*") if path.is_file()}
    assert files == {("images", NAME), ("proc", NAME), ("data_manifest", f"{NAME}.tsv")}
    assert {path.name for path in collected.folder.iterdir() if path.is_dir()} == set(ATTRIBUTES)
    assert all(path.name.isprintable() for path in collected.folder.rglob("*"))


def test_each_failure_is_reported_with_its_reason(collected):
    failed = {collected.result(failure.entry): failure.reason for failure in collected.fetched.failures}
    listed = [collected.result(entry) for entry in collected.entries]
    assert set(failed) == {result for result in listed if result.failure}
    wrong = [
        (result.kind, reason) for result, reason in failed.items() if not re.search(result.failure, reason)
    ]
    assert not wrong


def test_no_image_was_asked_for_twice_but_those_that_failed_at_first(collected):
    repeated = {
        collected.server.by_path[unquote(path)].kind
        for path, number in collected.asked.items()
        if isinstance(path, str) and number > 1
    }
    assert repeated <= {"429 at first", "500 at first", *TRANSIENT}


def test_the_same_steps_again_ask_only_for_what_may_have_come_back(same_data):
    before = same_data.server.asked.copy()
    entries = manifest.read(search.write_manifest(search_for(same_data.server), NAME))
    again = fetch.fetch_images(entries, same_data.folder, private_addresses=True)
    new = same_data.server.asked - before
    assert {same_data.server.by_path[unquote(path)].kind for path in new} <= set(TRANSIENT)
    assert (again.present, again.fetched, len(again.failures)) == (959, 0, 77)
    assert set(entries) == set(same_data.entries)


def test_without_leave_no_private_address_is_asked(server, collected, tmp_path):
    before = server.asked.total()
    with pytest.raises(
        ImgclfError, match="127.0.0.1 is not on the public internet; set private_addresses=True"
    ):
        fetch.fetch_images(collected.entries, tmp_path / "images" / "other")
    assert server.asked.total() == before


def test_exactly_the_copies_within_a_label_are_left_out(collected):
    left_out = {image.path for image in collected.dataset.excluded}
    assert len(left_out) == 14 and len(collected.dataset.images) == 945
    copies = {
        frozenset((pair.kept.path, pair.other.path))
        for pair in collected.dataset.duplicates
        if pair.is_exact and not pair.disagree
    }
    assert copies == pairs(collected, "copy in the label")
    assert left_out <= set().union(*copies) and all(len(left_out & pair) == 1 for pair in copies)


def test_exactly_the_copies_under_two_labels_and_the_near_duplicates_are_found(collected):
    found = collected.dataset.duplicates
    two_labels = {frozenset((pair.kept.path, pair.other.path)) for pair in found if pair.disagree}
    near = {frozenset((pair.kept.path, pair.other.path)) for pair in found if not pair.is_exact}
    assert two_labels == pairs(collected, "copy under another label")
    assert near == pairs(collected, "near-duplicate")


def test_exactly_the_images_that_show_little_are_found(collected):
    found = {each.kind: set(each.images) for each in findings.find(collected.dataset)}
    kinds = {findings.SMALL: "too small", findings.DARK: "too dark", findings.BLURRED: "blurred"}
    assert {kind: found[kind] for kind in kinds} == {
        kind: collected.of_kind(name) for kind, name in kinds.items()
    }


def test_exactly_the_pictures_that_are_there_twice_are_found_in_groups(collected):
    found = {
        each.kind: {frozenset(group) for group in each.groups} for each in findings.find(collected.dataset)
    }
    assert found[findings.LABELS_OF_COPIES] == pairs(collected, "copy under another label")
    assert found[findings.NEAR_DUPLICATES] == pairs(collected, "near-duplicate")


def test_the_attribution_page_names_author_licence_and_page_of_each_stored_image(same_data):
    text = attribution.write(NAME).read_text()
    pages = Counter(re.findall(r'href="(https://commons.wikimedia.org/wiki/[^"]*)"', text))
    stored = [entry for entry in same_data.entries if not same_data.result(entry).failure]
    assert pages == Counter(entry.page for entry in stored)
    assert "Karel Novák" in text and "Smith &amp; Sons, London" in text
    assert scan.find_files(same_data.folder)[0].folders == tuple(sorted(ATTRIBUTES))


def pairs(collected: Collected, kind: str) -> set[frozenset[str]]:
    """The paths of each image of a kind and of the one that it copies."""
    names = fetch.stored(collected.folder, set(ATTRIBUTES))
    paths = {collected.result(each): f"{each.label}/{names[fetch.key(each)]}" for each in collected.entries if fetch.key(each) in names}  # fmt: skip
    by_number = {result.number: path for result, path in paths.items()}
    return {
        frozenset((path, by_number[result.first])) for result, path in paths.items() if result.kind == kind
    }


@pytest.mark.notebooks
def test_notebook_08_leads_from_an_empty_folder_to_a_trained_classifier(
    server, data_dir, tmp_path, monkeypatch
):
    startup = tmp_path / "ipython/profile_default/startup"  # of all kernels
    startup.mkdir(parents=True)
    (startup / "0.py").write_text("from imgclf.collect import fetch\nfetch.IMAGE_SECONDS = 3\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    values = {
        "dataset_name": NAME,
        "objects": ", ".join(OBJECTS),
        "attributes": ", ".join(ATTRIBUTES),
        "images_per_query": PER_QUERY,
        "search_service": "commons",
        "search_url": server.url,
        "labels_from": "query",
        "private_addresses": True,
    }
    execution.execute(notebooks.path("08"), tmp_path, values)
    order = [query.text for query in the_queries()]
    expected = Counter(
        (each.label, hashlib.sha256(each.content).hexdigest())
        for each in search_results.listed(order)
        if not each.failure
    )
    assert contents(data_dir / "images" / NAME) == expected
    measured = json.loads((data_dir / "proc" / NAME / "evaluation.json").read_text())
    # One image in twenty has the label of another texture, or two labels.
    assert 0.85 < measured["overall_accuracy"] < 0.99 and 220 < measured["images"] < 250


def contents(folder: Path) -> Counter[tuple[str, str]]:
    """How often the label folders have each content: by label and sha256."""
    return Counter(
        (path.parent.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in folder.glob("*/*")
    )
