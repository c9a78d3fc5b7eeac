import json
import subprocess
import sys
import time

import pytest

from imgclf import ImgclfError, files
from imgclf.collect import manifest, search
from imgclf.collect.queries import Query, grid
from support.json_server import serving

BLOUSES = grid("blouse, dress", "dotted, striped")


def photo(name, **known):
    return {"url": f"http://images.org/{name}.jpg", "license": "by", "license_version": "2.0", **known}


def openverse(images, request, *, size=20):
    """The answer of Openverse to a request, of all its images for the query."""
    page = int(request.parameters["page"])
    results = images.get(request.parameters["q"], [])
    return {
        "result_count": len(results),
        "page_count": -(-len(results) // size),
        "page_size": size,
        "page": page,
        "results": results[(page - 1) * size : page * size],
    }


def found(images, queries=BLOUSES, *, most=50, again=False, **settings):
    """The result of a search in a server with these images for each query, and the server's requests."""
    with serving(lambda request: openverse(images, request)) as server:
        service = search.service("openverse", url=server.url, **settings)
        result = search.run(service, queries, dataset_name="fruit", images_per_query=most)
        if again:
            result = search.run(service, queries, dataset_name="fruit", images_per_query=most)
    return result, server.asked


def urls(result):
    return [hit.found.url.rpartition("/")[2] for hit in result.hits]


def test_pages_are_asked_for_until_there_are_enough_images():
    images = {"dotted blouse": [photo(number) for number in range(100)]}
    result, asked = found(images, BLOUSES[:1])
    assert urls(result) == [f"{number}.jpg" for number in range(50)]
    assert [request.parameters["page"] for request in asked] == ["1", "2", "3"]


def test_a_query_with_fewer_images_ends_with_its_last_page():
    result, asked = found({"dotted blouse": [photo(number) for number in range(25)]}, BLOUSES[:1])
    assert (len(result.hits), len(asked), result.stopped) == (25, 2, "")


def test_an_image_of_two_queries_gets_the_label_of_the_one_in_which_it_ranks_best():
    images = {
        "dotted blouse": [photo("a"), photo("b"), photo("both")],
        "striped dress": [photo("c"), photo("both")],
    }
    result, _ = found(images)
    assert urls(result) == ["a.jpg", "b.jpg", "c.jpg", "both.jpg"]
    assert [query.text for query in result.hits[3].queries] == ["striped dress", "dotted blouse"]
    assert result.hits[3].labels == ("striped", "dotted")
    assert result.table().to_dict("split")["data"] == [
        ["dotted blouse", "dotted", 3, 2],
        ["striped blouse", "striped", 0, 0],
        ["dotted dress", "dotted", 0, 0],
        ["striped dress", "striped", 2, 2],
    ]


def test_images_found_for_two_labels_are_reported_and_those_of_one_label_are_not():
    images = {
        "dotted blouse": [photo("a"), photo("x")],
        "dotted dress": [photo("a")],
        "striped dress": [photo("x", title="X")],
    }
    result, _ = found(images)
    assert [hit.found.url for hit in result.ambiguous] == ["http://images.org/x.jpg"]
    assert (
        "CAREFUL: 1 images were found for several labels, and got the first of them; look at X (striped, dotted)"
        in str(result)
    )


def test_two_spellings_of_a_url_are_one_image():
    images = {
        "dotted blouse": [photo("a")],
        "striped blouse": [photo("a", url="https://IMAGES.org/a.jpg#top")],
    }
    assert urls(found(images)[0]) == ["a.jpg"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        7,
        "file:///etc/passwd",
        "ftp://a/b.jpg",
        "http://[",
        "http:///x.jpg",
        "http://a/\x00.jpg",
        "javascript:alert(1)",
    ],
)
def test_results_without_a_web_address_are_left_out(url):
    result, _ = found({"dotted blouse": [photo("a", url=url), photo("b")]}, BLOUSES[:1])
    assert urls(result) == ["b.jpg"]


def test_kept_answers_are_not_asked_for_again_and_give_the_same():
    images = {
        query.text: [photo(f"{query.text[:9]}{number}", title="<b>A &amp;amp; B</b>") for number in range(30)]
        for query in BLOUSES
    }
    first, asked = found(images)
    assert (first.requests, len(asked), len(first.hits)) == (8, 8, 120)
    second, asked_twice = found(images, again=True)
    assert (second.requests, len(asked_twice)) == (0, 8)
    assert second.hits == first.hits


def test_another_server_filter_or_query_is_asked_anew():
    images = {"dotted blouse": [photo("a")]}
    assert len(found(images, BLOUSES[:1])[1]) == 1
    _, asked = found(images, BLOUSES[:1], commercial_use=True)
    assert [request.parameters.get("license_type") for request in asked] == ["commercial"]


def test_more_images_per_query_ask_only_for_the_pages_that_are_missing():
    images = {"dotted blouse": [photo(number) for number in range(60)]}
    with serving(lambda request: openverse(images, request)) as server:
        service = search.service("openverse", url=server.url)
        for most in (20, 60):
            search.run(service, BLOUSES[:1], dataset_name="fruit", images_per_query=most)
    assert [request.parameters["page"] for request in server.asked] == ["1", "2", "3"]


def test_a_damaged_answer_on_disk_is_asked_for_again():
    images = {"dotted blouse": [photo("a")]}
    with serving(lambda request: openverse(images, request)) as server:
        service = search.service("openverse", url=server.url)
        search.run(service, BLOUSES[:1], dataset_name="fruit", images_per_query=9)
        [kept] = (files.proc_dir("fruit") / "search").glob("*.json")
        kept.write_text('{"found": [{"url": 7}], "position": null}')
        result = search.run(service, BLOUSES[:1], dataset_name="fruit", images_per_query=9)
    assert (urls(result), len(server.asked)) == (["a.jpg"], 2)


def test_a_short_wait_is_kept_and_the_request_repeated():
    answers = [(429, {"Retry-After": "1"}, {"detail": "Request was throttled."})]

    def answer(request):
        return answers.pop() if answers else openverse({"dotted blouse": [photo("a")]}, request)

    start = time.monotonic()
    with serving(answer) as server:
        result = search.run(
            search.service("openverse", url=server.url), BLOUSES[:1], dataset_name="fruit", images_per_query=9
        )
    assert time.monotonic() - start >= 1
    assert (urls(result), len(server.asked), result.stopped) == (["a.jpg"], 2, "")


def test_a_long_wait_ends_the_search_with_what_is_there_and_says_when_to_go_on():
    images = {query.text: [photo(f"{query.label}{number}") for number in range(25)] for query in BLOUSES}
    is_limited = True

    def answer(request):
        if is_limited and len(server.asked) > 3:
            return 429, {"Retry-After": "3600"}, {"detail": "Request was throttled."}
        return openverse(images, request)

    with serving(answer) as server:
        service = search.service("openverse", url=server.url)
        result = search.run(service, BLOUSES, dataset_name="fruit", images_per_query=25)
        assert len(server.asked) == 4
        assert [(query.text, count) for query, count in result.counts] == [
            ("dotted blouse", 25),
            ("striped blouse", 20),
        ]
        assert (
            "stopped at the query 'striped blouse', since openverse asks to wait 3,600 seconds; run again after"
            in str(result)
        )
        assert len(manifest.read(search.write_manifest(result, "fruit"))) == 45
        is_limited = False
        result = search.run(service, BLOUSES, dataset_name="fruit", images_per_query=25)
    assert result.stopped == ""
    assert [request.parameters["page"] for request in server.asked] == [
        "1",
        "2",
        "1",
        "2",
        "2",
        "1",
        "2",
        "1",
        "2",
    ]


def test_too_many_requests_without_a_wait_end_the_search_for_a_minute():
    with serving(lambda request: (429, {}, "")) as server:
        result = search.run(
            search.service("inaturalist", url=server.url), BLOUSES, dataset_name="fruit", images_per_query=9
        )
    assert len(server.asked) == 1
    assert "inaturalist asks to wait 60 seconds; run again after" in result.stopped


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (401, {}, {"detail": "Authentication credentials were not provided."}),
            "HTTP 401 Unauthorized; check search",
        ),
        ("<html>Welcome to the hotel</html>", "the answer is no JSON"),
        ([], "the answer is no JSON object"),
        ({"page_count": 1}, "openverse answered 'dotted blouse' in a format that imgclf does not know"),
        ('{"page_count": Infinity, "results": []}', "in a format that imgclf does not know"),
        ("[" * 100_000, "the answer is no JSON"),
        ({"page_count": 1, "results": ["a"]}, "in a format that imgclf does not know"),
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error_with_its_reason(answer, message):
    with serving(lambda request: answer) as server, pytest.raises(ImgclfError, match=message):
        search.run(
            search.service("openverse", url=server.url), BLOUSES[:1], dataset_name="fruit", images_per_query=9
        )


def test_a_redirect_is_followed_but_a_key_goes_to_no_other_server(monkeypatch):
    images = {"dotted blouse": [photo("a")]}
    with serving(lambda request: openverse(images, request)) as other:

        def away(request):
            return 302, {"Location": f"{other.url}?q=dotted+blouse&page=1"}, ""

        with serving(away) as server:
            ask = search.service("openverse", url=server.url).ask
            assert len(ask("dotted blouse", {}).found) == 1
            monkeypatch.setenv("OPENVERSE_TOKEN", "secret")
            ask = search.service("openverse", url=server.url).ask
            with pytest.raises(ImgclfError, match="HTTP 302"):
                ask("dotted blouse", {})
    assert server.asked[-1].headers["authorization"] == "Bearer secret"
    assert ["authorization" in request.headers for request in other.asked] == [False]


SEARCH = """
import sys
from imgclf.collect import search
from imgclf.collect.queries import grid
service = search.service("openverse", url=sys.argv[1])
result = search.run(service, grid("blouse, dress", "dotted, striped"), dataset_name="fruit", images_per_query=60)
search.write_manifest(result, "fruit")
"""


def test_a_killed_search_goes_on_with_the_answers_it_has_kept(data_dir):
    images = {query.text: [photo(f"{query.text[:9]}{number}") for number in range(60)] for query in BLOUSES}

    def answer(request):
        if len(server.asked) == 6:
            process.kill()  # SIGKILL, while it waits for the sixth answer
        return openverse(images, request)

    with serving(answer) as server:
        command = [sys.executable, "-c", SEARCH, server.url]
        process = subprocess.Popen(command)
        assert process.wait(timeout=60) == -9
        assert not manifest.own("fruit").exists()
        subprocess.run(command, check=True, timeout=60)
        asked = [(request.parameters["q"], request.parameters["page"]) for request in server.asked]
        written = manifest.own("fruit").read_bytes()
        assert len(asked) == 13
        assert len(set(asked)) == 12  # only the answer that was not received is asked for twice
        manifest.own("fruit").unlink()
        for kept in (files.proc_dir("fruit") / "search").iterdir():
            kept.unlink()
        subprocess.run(command, check=True, timeout=60)
    assert manifest.own("fruit").read_bytes() == written
    assert len(manifest.read(manifest.own("fruit"))) == 240


def test_the_manifest_keeps_licence_author_title_page_and_queries(data_dir):
    known = {
        "creator": "Ann\tB.\n<script>alert(1)</script>",
        "title": "Blouse \x1b[31m",
        "foreign_landing_url": "https://flickr.com/1",
    }
    images = {"dotted blouse": [photo("a", **known)], "dotted dress": [photo("a")]}
    path = search.write_manifest(found(images)[0], "fruit")
    assert path == data_dir / "data_manifest" / "fruit.tsv" == manifest.find("fruit")
    [entry] = manifest.entries_of("fruit")
    assert (entry.label, entry.source, entry.file_name) == ("dotted", "http://images.org/a.jpg", "a.jpg")
    assert (entry.licence, entry.author, entry.title) == ("CC BY 2.0", "Ann B.", "Blouse [31m")
    assert (entry.page, entry.query) == ("https://flickr.com/1", "dotted blouse | dotted dress")


def test_labels_from_a_person_put_all_images_into_unlabelled():
    result, _ = found({"dotted blouse": [photo("a")], "striped dress": [photo("b")]})
    entries = manifest.read(search.write_manifest(result, "fruit", labels_from="person"))
    assert [entry.label for entry in entries] == ["unlabelled", "unlabelled"]
    with pytest.raises(ImgclfError, match="labels_from='me': is not one of query, person"):
        search.write_manifest(result, "fruit", labels_from="me")


def test_images_that_were_fetched_stay_listed_and_others_are_replaced(data_dir):
    result, _ = found({"dotted blouse": [photo("a"), photo("b")]}, BLOUSES[:1])
    search.write_manifest(result, "fruit")
    (data_dir / "images" / "fruit" / "dotted").mkdir(parents=True)
    (data_dir / "images" / "fruit" / "dotted" / "a.png").touch()
    result, _ = found({"red shoe": [photo("a"), photo("c")]}, [Query("red shoe", "red")])
    entries = manifest.read(search.write_manifest(result, "fruit"))
    assert [(entry.label, entry.file_name) for entry in entries] == [("dotted", "a.jpg"), ("red", "c.jpg")]


def test_a_file_of_the_user_keeps_its_name_and_an_image_that_is_found_gets_another(data_dir):
    (data_dir / "images" / "fruit" / "dotted").mkdir(parents=True)
    (data_dir / "images" / "fruit" / "dotted" / "A.png").touch()
    result, _ = found({"dotted blouse": [photo("a"), photo("b")]}, BLOUSES[:1])
    for _ in range(2):
        entries = manifest.read(search.write_manifest(result, "fruit"))
        assert [entry.file_name for entry in entries] == ["a-2.jpg", "b.jpg"]


def test_images_of_a_manifest_that_comes_with_imgclf_stay_listed(data_dir):
    first = manifest.read(manifest.MANIFESTS / "fashion_texture.tsv")[0]
    path = data_dir / "images" / "fashion_texture" / first.label / first.file_name
    path.parent.mkdir(parents=True)
    path.touch()
    result, _ = found({"dotted blouse": [photo("a")]}, BLOUSES[:1])
    entries = manifest.read(search.write_manifest(result, "fashion_texture"))
    assert first in entries


def test_entries_that_a_person_wrote_stay_listed_before_they_are_fetched():
    written = manifest.Entry("apple", "http://images.org/own.jpg", split="test", file_name="own.jpg")
    manifest.write(manifest.own("fruit"), [written])
    result, _ = found({"dotted blouse": [photo("a")]}, BLOUSES[:1])
    entries = manifest.read(search.write_manifest(result, "fruit"))
    assert entries[0] == written and len(entries) == 2


def test_a_search_that_finds_nothing_writes_no_manifest():
    result, _ = found({})
    assert "nothing found for dotted blouse, striped blouse, dotted dress and 1 more" in str(result)
    with pytest.raises(ImgclfError, match="no images of 'fruit' were found; choose other objects"):
        search.write_manifest(result, "fruit")
    assert not manifest.own("fruit").exists()


def test_progress_counts_the_queries():
    done = []
    with serving(lambda request: openverse({}, request)) as server:
        service = search.service("openverse", url=server.url)
        search.run(service, BLOUSES, dataset_name="fruit", images_per_query=9, progress=done.append)
    assert done == [1, 2, 3, 4]


def test_a_filter_that_leaves_few_images_does_not_ask_for_ever():
    page = {"index": 1, "title": "File:A.pdf", "imageinfo": [{"mime": "application/pdf"}]}
    content = {"query": {"pages": [page]}, "continue": {"gsroffset": 50, "continue": "gsroffset||"}}
    with serving(lambda request: content) as server:
        service = search.service("commons", url=server.url)
        search.run(service, BLOUSES[:1], dataset_name="fruit", images_per_query=50)
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"search": "bing"},
            "search_service='bing': is not one of folder, openverse, commons, inaturalist, brave",
        ),
        ({"search": "openverse", "url": "file:///etc"}, "search_url='file:///etc': does not begin with http"),
    ],
)
def test_a_service_that_does_not_exist_is_refused(settings, message):
    with pytest.raises(ImgclfError, match=message):
        search.service(**settings)


def test_kept_answers_are_readable_files(data_dir):
    found({"dotted blouse": [photo("a")]}, BLOUSES[:1])
    [kept] = (data_dir / "proc" / "fruit" / "search").iterdir()
    content = json.loads(kept.read_text())
    assert (content["search"], content["query"], content["position"]) == ("openverse", "dotted blouse", None)
