"""Openverse, iNaturalist and Brave: requests and answers as their documentation has them."""

import pytest

from imgclf import ImgclfError
from imgclf.collect import search
from imgclf.collect.queries import grid
from imgclf.collect.search.protocol import Found
from support.json_server import serving

# The fields of the serializer of WordPress/openverse.
OPENVERSE = {
    "id": "4bc43a04-ef46-4544-a0c1-63c63f56e276",
    "title": "Blouse & skirt",
    "indexed_on": "2020-06-27T14:53:10.363829Z",
    "foreign_landing_url": "https://www.flickr.com/photos/10/200",
    "url": "https://live.staticflickr.com/3/200_b.jpg",
    "creator": "Ann <ann@example.org>",
    "creator_url": "https://www.flickr.com/photos/10",
    "license": "by-nc",
    "license_version": "2.0",
    "license_url": "https://creativecommons.org/licenses/by-nc/2.0/",
    "provider": "flickr",
    "source": "flickr",
    "category": None,
    "filesize": None,
    "filetype": None,
    "tags": [{"name": "blouse", "accuracy": None, "unstable__provider": "flickr"}],
    "attribution": '"Blouse & skirt" by Ann is licensed under CC BY-NC 2.0.',
    "fields_matched": ["title"],
    "mature": False,
    "height": 1024,
    "width": 683,
    "thumbnail": "https://api.openverse.org/v1/images/4bc43a04-ef46-4544-a0c1-63c63f56e276/thumb/",
    "detail_url": "https://api.openverse.org/v1/images/4bc43a04-ef46-4544-a0c1-63c63f56e276/",
    "related_url": "https://api.openverse.org/v1/images/4bc43a04-ef46-4544-a0c1-63c63f56e276/related/",
    "unstable__sensitivity": [],
}


def observation(number, *photos, **known):
    """An observation with the fields of api.inaturalist.org/v1 that say what its photographs are."""
    return {
        "id": number,
        "uuid": "c1f4f2c8-1e7b-4d6c-9c70-0c9d0f1b0b8a",
        "quality_grade": "research",
        "uri": f"https://www.inaturalist.org/observations/{number}",
        "license_code": "cc-by-nc",
        "taxon": {
            "id": 42069,
            "name": "Vulpes vulpes",
            "rank": "species",
            "preferred_common_name": "Red Fox",
        },
        "user": {"id": 1, "login": "ann", "name": "Ann Lee"},
        "photos": list(photos),
    } | known


def fox(number, licence="cc-by-nc"):
    return {
        "id": number,
        "license_code": licence,
        "original_dimensions": {"width": 1530, "height": 2048},
        "url": f"https://inaturalist-open-data.s3.amazonaws.com/photos/{number}/square.jpg",
        "attribution": "(c) Ann Lee, some rights reserved (CC BY-NC)",
        "flags": [],
        "moderator_actions": [],
        "hidden": False,
    }


BRAVE = {
    "type": "image_result",
    "title": "Dotted <strong>blouse</strong>",
    "url": "https://shop.example.com/blouse",
    "source": "shop.example.com",
    "page_fetched": "2025-05-01T10:00:00Z",
    "thumbnail": {"src": "https://imgs.search.brave.com/abc", "width": 500, "height": 500},
    "properties": {
        "url": "https://shop.example.com/blouse.jpg?v=1",
        "placeholder": "https://imgs.search.brave.com/def",
        "width": 1200,
        "height": 1600,
    },
    "meta_url": {
        "scheme": "https",
        "netloc": "shop.example.com",
        "hostname": "shop.example.com",
        "path": "/ blouse",
    },
    "confidence": "high",
}


def ask(name, content, position=None, query="red fox", **settings):
    with serving(lambda request: content) as server:
        result = search.service(name, url=server.url, **settings).ask(query, position or {})
    return result, server.asked[-1]


def observations(*results):
    return {"total_results": 5000, "page": 1, "per_page": 100, "results": list(results)}


def openverse(pages=3, *results):
    return {"result_count": 60, "page_count": pages, "page_size": 20, "page": 1, "results": list(results)}


def test_openverse_gives_image_page_licence_author_and_title(monkeypatch):
    monkeypatch.delenv("OPENVERSE_TOKEN", raising=False)
    result, request = ask("openverse", openverse(3, OPENVERSE))
    assert result.found == (
        Found(
            "https://live.staticflickr.com/3/200_b.jpg",
            "https://www.flickr.com/photos/10/200",
            "CC BY-NC 2.0",
            "Ann",
            "Blouse & skirt",
        ),
    )
    assert request.parameters == {"q": "red fox", "page": "1", "page_size": "20"}
    assert "authorization" not in request.headers


def test_openverse_pages_end_with_the_last_or_at_240_images():
    assert ask("openverse", openverse(3), {"page": 2})[0].position == {"page": 3}
    assert ask("openverse", openverse(3), {"page": 3})[0].position is None
    assert ask("openverse", openverse(0))[0].position is None
    assert ask("openverse", openverse(500), {"page": 12})[0].position is None


def test_openverse_filters_for_commercial_use_and_takes_a_token(monkeypatch):
    monkeypatch.setenv("OPENVERSE_TOKEN", "DLBYIcfnKfolaXKcmMC8RIDCavc2hW")
    _, request = ask("openverse", openverse(), commercial_use=True)
    assert request.parameters["license_type"] == "commercial"
    assert request.headers["authorization"] == "Bearer DLBYIcfnKfolaXKcmMC8RIDCavc2hW"


def commons(*licences):
    """An answer of Wikimedia Commons with an image for each licence."""
    pages = [
        {
            "index": number,
            "title": f"File:{number}.jpg",
            "imageinfo": [
                {
                    "mime": "image/jpeg",
                    "url": f"https://upload.wikimedia.org/{number}.jpg",
                    "extmetadata": {"LicenseShortName": {"value": licence}},
                }
            ],
        }
        for number, licence in enumerate(licences)
    ]
    return {"query": {"pages": pages}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "openverse",
            openverse(
                1,
                *(
                    OPENVERSE | {"url": f"https://a.org/{code}.jpg", "license": code}
                    for code in ("by-nc", None, "cc0")
                ),
            ),
        ),
        ("commons", commons("CC BY-NC 2.0", "", "CC0 1.0")),
        ("inaturalist", observations(observation(9, fox(1)), observation(8, fox(2, "cc0")))),
    ],
)
def test_for_commercial_use_an_answers_other_and_unknown_licences_are_left_out(name, content):
    with serving(lambda request: content) as server:
        service = search.service(name, url=server.url, commercial_use=True)
        result = search.run(service, grid("red fox"), dataset_name="fruit", images_per_query=9)
    assert [hit.found.licence[:3] for hit in result.hits] == ["CC0"]


def test_openverse_results_without_creator_title_or_page_are_kept():
    bare = dict.fromkeys(OPENVERSE) | {"url": OPENVERSE["url"], "license": "pdm"}
    result, _ = ask("openverse", openverse(1, bare))
    assert result.found == (Found(OPENVERSE["url"], licence="Public domain"),)


def test_inaturalist_gives_the_large_photograph_of_a_taxon_with_licence_and_author():
    result, request = ask("inaturalist", observations(observation(7, fox(70))))
    assert result.found == (
        Found(
            "https://inaturalist-open-data.s3.amazonaws.com/photos/70/large.jpg",
            "https://www.inaturalist.org/observations/7",
            "CC BY-NC 4.0",
            "Ann Lee",
            "Vulpes vulpes",
        ),
    )
    expected = {"taxon_name": "red fox", "photo_licensed": "true", "per_page": "100", "order_by": "id"}
    assert expected.items() <= request.parameters.items()


def test_inaturalist_takes_one_licensed_photograph_of_an_observation():
    result, _ = ask(
        "inaturalist",
        observations(
            observation(9, fox(1, None), fox(2), fox(3)),
            observation(8, fox(4, None)),
            observation(7, fox(5), user={"login": "bob", "name": ""}),
            observation(6),
        ),
    )
    assert [image.url.split("/")[-2] for image in result.found] == ["2", "5"]
    assert result.found[1].author == "bob"


def test_inaturalist_for_commercial_use_asks_for_such_licences():
    _, request = ask("inaturalist", observations(), commercial_use=True)
    assert request.parameters["photo_license"] == "cc0,cc-by,cc-by-sa,cc-by-nd"


def test_inaturalist_pages_go_by_the_id_of_the_last_observation():
    full = observations(*(observation(number, fox(number)) for number in range(900, 800, -1)))
    result, _ = ask("inaturalist", full)
    assert result.position == {"id_below": 801}
    _, request = ask("inaturalist", full, result.position)
    assert request.parameters["id_below"] == "801"
    assert ask("inaturalist", observations(observation(7, fox(70))))[0].position is None


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("BRAVE_SEARCH_API_KEY", "BSA-secret")


def test_brave_gives_the_image_on_the_web_page_and_no_licence(key):
    content = {"type": "images", "query": {"original": "red fox"}, "results": [BRAVE], "extra": {}}
    result, request = ask("brave", content)
    assert result.found == (
        Found(
            "https://shop.example.com/blouse.jpg?v=1",
            "https://shop.example.com/blouse",
            title="Dotted blouse",
        ),
    )
    assert result.position is None
    assert request.headers["x-subscription-token"] == "BSA-secret"
    assert request.parameters == {"q": "red fox", "count": "200", "safesearch": "strict"}


def test_brave_needs_a_key_and_finds_nothing_for_commercial_use(monkeypatch):
    monkeypatch.delenv("BRAVE_SEARCH_API_KEY", raising=False)
    with pytest.raises(ImgclfError, match="needs a key .* in the variable BRAVE_SEARCH_API_KEY"):
        search.service("brave")
    with pytest.raises(ImgclfError, match="search_service=brave: it knows no licences"):
        search.service("brave", commercial_use=True)


@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [("0, 0", "1, 1419704", 1_419_704), ("1, 0", "1, 1419704", 1_419_704), ("0, 0", "1, 40", 40)],
)
def test_brave_waits_by_its_own_headers_until_a_used_up_month_ends(key, remaining, reset, seconds):
    headers = {
        "X-RateLimit-Limit": "1, 2000",
        "X-RateLimit-Policy": "1;w=1, 2000;w=2592000",
        "X-RateLimit-Remaining": remaining,
        "X-RateLimit-Reset": reset,
    }
    error = {"type": "ErrorResponse", "error": {"code": "RATE_LIMITED", "status": 429}}
    with pytest.raises(ImgclfError, match=f"brave asks to wait {seconds:,} seconds"):
        ask("brave", (429, headers, error))


def test_brave_is_asked_again_after_a_second_if_only_that_is_used_up(key):
    headers = {"X-RateLimit-Remaining": "0, 1999", "X-RateLimit-Reset": "1, 1419704"}
    answers = [{"results": [BRAVE]}, (429, headers, {})]
    with serving(lambda request: answers.pop()) as server:
        result = search.service("brave", url=server.url).ask("red fox", {})
    assert (len(result.found), len(server.asked)) == (1, 2)


def test_the_key_is_in_no_message_and_no_file(key, data_dir):
    with pytest.raises(ImgclfError) as error:
        ask("brave", (422, {}, {"error": {"code": "SUBSCRIPTION_TOKEN_INVALID"}}))
    assert "secret" not in str(error.value)
    with serving(lambda request: {"results": [BRAVE]}) as server:
        service = search.service("brave", url=server.url)
        result = search.run(service, grid("red fox"), dataset_name="fruit", images_per_query=9)
    [kept] = (data_dir / "proc" / "fruit" / "search").iterdir()
    assert len(result.hits) == 1
    assert "secret" not in repr(result) + kept.read_text()
