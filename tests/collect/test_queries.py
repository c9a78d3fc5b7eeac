import pytest

from imgclf import ImgclfError
from imgclf.collect import search
from imgclf.collect.queries import Query, grid, preview


def test_the_tutorials_grid_has_21_queries_labelled_by_attribute():
    queries = grid("blouse, dress, hoodie, pants, shirt, skirt, sweater", "dotted, leopard, striped")
    assert len(queries) == len({query.text for query in queries}) == 21
    assert queries[:4] == [
        Query("dotted blouse", "dotted"),
        Query("leopard blouse", "leopard"),
        Query("striped blouse", "striped"),
        Query("dotted dress", "dotted"),
    ]


@pytest.mark.parametrize(
    ("objects", "attributes"), [("red fox, hare", ""), ("", "red fox, hare"), (" red\n fox ,hare,", " ")]
)
def test_names_of_one_kind_are_queries_and_labels(objects, attributes):
    assert grid(objects, attributes) == [Query("red fox", "red fox"), Query("hare", "hare")]


def test_an_object_that_is_no_label_may_have_signs_that_no_folder_name_has():
    assert grid('"polo/T-shirt"', "dotted") == [Query('dotted "polo/T-shirt"', "dotted")]


@pytest.mark.parametrize(
    ("objects", "attributes", "message"),
    [
        ("", " , ", "objects='' and attributes='': there is nothing to search for; name what"),
        ("blouse, Blouse", "dotted", "objects: 'Blouse' is there twice; remove one"),
        ("blouse", "dotted, dotted", "attributes: 'dotted' is there twice"),
        ("blouse", "dot/ted", "attributes: 'dot/ted' becomes a label, and has a slash"),
        ("None_of_these", "", "'None_of_these' becomes a label, and is the folder of images of none of"),
        ("Attribution.html", "", "'Attribution.html' becomes a label, and is the name of a file that imgclf"),
        ("..", "", "objects: '..' becomes a label, and begins with a dot"),
        ("unlabelled", "", "objects: 'unlabelled' becomes a label, and is the folder of images without"),
        ("blo\x1buse", "dotted", "has a control character; remove it"),
        ("a|b", "dotted", "has a vertical bar"),
        ("x" * 81, "dotted", "has more than 80 letters; shorten"),
    ],
)
def test_names_that_cannot_be_used_are_refused(objects, attributes, message):
    with pytest.raises(ImgclfError, match=message):
        grid(objects, attributes)


QUERIES = grid("blouse, dress, hoodie, pants, shirt, skirt, sweater", "dotted, leopard, striped")


def preview_of(name, images=50, **settings):
    return preview(QUERIES, images_per_query=images, search=search.service(name, **settings))


def test_preview_counts_requests_images_and_time_at_the_limits_of_the_service(monkeypatch):
    monkeypatch.setenv("BRAVE_SEARCH_API_KEY", "key")
    monkeypatch.setenv("IMGCLF_CONTACT", "ann@example.org")
    monkeypatch.delenv("OPENVERSE_TOKEN", raising=False)
    shown = {name: preview_of(name) for name in ("openverse", "commons", "inaturalist", "brave")}
    figures = {name: (each.requests, each.images, each.seconds) for name, each in shown.items()}
    assert figures == {
        "openverse": (63, 1050, 62 * 3),
        "commons": (21, 1050, 0),
        "inaturalist": (21, 1050, 20),
        "brave": (21, 1050, 20),
    }
    assert str(shown["openverse"]).startswith(
        "21 queries to openverse: at most 1,050 images by at most 63 requests in 3 minutes or more\n"
        "dotted: dotted blouse, dotted dress,"
    )


def test_preview_knows_the_most_images_of_a_query_and_the_requests_of_a_day(monkeypatch):
    monkeypatch.delenv("OPENVERSE_TOKEN", raising=False)
    shown = preview_of("openverse", 1000)
    assert (shown.requests, shown.images, shown.seconds) == (21 * 12, 21 * 240, 86_400)
    assert "in 24 hours or more" in str(shown)


def test_preview_of_a_folder_needs_no_requests(tmp_path):
    shown = preview_of("folder", folder=str(tmp_path))
    assert (shown.requests, shown.images, shown.seconds) == (0, 1050, 0)
    assert str(shown).startswith("21 queries to folder: at most 1,050 images\n")
