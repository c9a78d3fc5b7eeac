import pytest

from imgclf import ImgclfError
from imgclf.collect import search
from imgclf.collect.search.protocol import Found
from support.json_server import serving


def value(text):
    return {"value": text, "source": "commons-desc-page", "hidden": ""}


def file_page(number, *, index, mime="image/jpeg", licence="CC BY-SA 4.0", artist="Ann", info=True):
    """A page of an answer, as api.php gives it with formatversion=2."""
    name = f"Blouse_{number}.jpg"
    metadata = {"ObjectName": value(f"Blouse {number}"), "Artist": value(artist)}
    if licence:
        metadata["LicenseShortName"] = value(licence)
    page = {
        "pageid": 1000 + number,
        "ns": 6,
        "title": f"File:Blouse {number}.jpg",
        "index": index,
        "imagerepository": "local",
    }
    if info:
        page["imageinfo"] = [
            {
                "size": 2_500_000,
                "width": 4000,
                "height": 3000,
                "thumburl": f"https://upload.wikimedia.org/wikipedia/commons/thumb/a/ab/{name}/960px-{name}",
                "thumbwidth": 960,
                "thumbheight": 720,
                "url": f"https://upload.wikimedia.org/wikipedia/commons/a/ab/{name}",
                "descriptionurl": f"https://commons.wikimedia.org/wiki/File:{name}",
                "descriptionshorturl": f"https://commons.wikimedia.org/w/index.php?curid={1000 + number}",
                "mime": mime,
                "extmetadata": metadata,
            }
        ]
    return page


def answer(*pages, following=None):
    content = {"batchcomplete": True, "query": {"pages": list(pages)}}
    return content | ({"continue": following} if following else {})


def ask(content, position=None, **settings):
    with serving(lambda request: content) as server:
        result = search.service("commons", url=server.url, **settings).ask("dotted blouse", position or {})
    return result, server.asked


def test_an_image_has_the_thumbnail_of_the_answer_its_page_licence_author_and_title():
    result, _ = ask(answer(file_page(1, index=1)))
    assert result.found == (
        Found(
            "https://upload.wikimedia.org/wikipedia/commons/thumb/a/ab/Blouse_1.jpg/960px-Blouse_1.jpg",
            "https://commons.wikimedia.org/wiki/File:Blouse_1.jpg",
            "CC BY-SA 4.0",
            "Ann",
            "Blouse 1",
        ),
    )


def test_images_come_in_the_order_of_the_search_and_not_of_the_pages():
    result, _ = ask(answer(file_page(1, index=3), file_page(2, index=1), file_page(3, index=2)))
    assert [image.title for image in result.found] == ["Blouse 2", "Blouse 3", "Blouse 1"]


def test_the_request_asks_for_bitmap_files_their_licence_and_a_width_that_commons_has(monkeypatch):
    monkeypatch.setenv("IMGCLF_CONTACT", "ann@example.org")
    _, [request] = ask(answer())
    expected = {
        "action": "query",
        "format": "json",
        "formatversion": "2",
        "generator": "search",
        "gsrsearch": "dotted blouse filetype:bitmap",
        "gsrnamespace": "6",
        "gsrlimit": "50",
        "iiurlwidth": "960",
    }
    assert expected.items() <= request.parameters.items()
    assert "ann@example.org" in request.headers["user-agent"]


def test_the_next_answer_is_asked_for_with_all_that_continue_holds():
    following = {"gsroffset": 50, "iicontinue": "Blouse.jpg|2020", "continue": "gsroffset||"}
    result, _ = ask(answer(file_page(1, index=1), following=following))
    assert result.position == following
    _, [request] = ask(answer(), result.position)
    assert {key: str(text) for key, text in following.items()}.items() <= request.parameters.items()
    assert ask(answer(file_page(1, index=1)))[0].position is None


def test_an_answer_without_results_has_no_images():
    assert ask({"batchcomplete": True})[0].found == ()


def test_pages_that_a_later_answer_describes_and_files_that_are_no_pictures_are_left_out():
    pages = [file_page(1, index=1, info=False), file_page(2, index=2, mime="application/pdf")]
    result, _ = ask(answer(*pages, file_page(3, index=3)))
    assert [image.title for image in result.found] == ["Blouse 3"]


def test_html_of_the_author_becomes_text():
    artist = (
        '<a href="//commons.wikimedia.org/wiki/User:Ann" title="User:Ann">Ann &amp; Bob</a><br>\n'
        "<script>alert(1)</script> of <i>Rome</i>\u202e"
    )
    result, _ = ask(answer(file_page(1, index=1, artist=artist)))
    assert result.found[0].author == "Ann & Bob of Rome"


def test_an_error_with_the_status_200_is_raised_with_its_text():
    error = {"error": {"code": "badvalue", "info": "Unrecognized value for parameter generator"}}
    with pytest.raises(ImgclfError, match="badvalue: Unrecognized value for parameter generator; check"):
        ask(error)


def test_a_busy_server_is_asked_again(monkeypatch):
    monkeypatch.setattr("imgclf.collect.search.commons.BUSY_SECONDS", 0.01)
    busy = {"error": {"code": "maxlag", "info": "Waiting for 10.64.32.12: 6.3 seconds lagged", "lag": 6.3}}
    contents = [busy, busy, answer(file_page(1, index=1))]
    with serving(lambda request: contents.pop(0)) as server:
        result = search.service("commons", url=server.url).ask("blouse", {})
    assert len(result.found) == 1
    assert len(server.asked) == 3


def test_wikimedia_is_not_asked_without_a_contact(monkeypatch):
    monkeypatch.delenv("IMGCLF_CONTACT", raising=False)
    with pytest.raises(ImgclfError, match="set the environment variable IMGCLF_CONTACT"):
        search.service("commons")
    monkeypatch.setenv("IMGCLF_CONTACT", "ann@example.org")
    assert search.service("commons").identity == "https://commons.wikimedia.org/w/api.php"
