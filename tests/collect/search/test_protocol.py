import time

import pytest

from imgclf import ImgclfError
from imgclf.collect.search import web
from imgclf.collect.search.protocol import Found, plain_text
from imgclf.collect.search.web import Interface
from support.json_server import serving


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Ann", "Ann"),
        ("<a href='x' title='1 > 0'>Ann</a>", "0'>Ann"),
        ('<span class="fn">Anna<i>lisa</i></span><br/>Rome', "Annalisa Rome"),
        ("A &amp; B &#39;C&#39; &nbsp; D", "A & B 'C' D"),
        ("&lt;script&gt;alert(1)&lt;/script&gt;", "<script>alert(1)</script>"),
        ("Ann<script>alert(1)", "Ann"),
        ("Ann<STYLE>p {}</STYLE > Lee<!-- a > b -->", "Ann Lee"),
        ("I <3 apples", "I <3 apples"),
        ("<![foo[Ann", ""),
        ("Ann\r\n\tLee\x00\u202e\ud800", "Ann Lee"),
        (7, "7"),
        (None, ""),
        ({"value": "Ann"}, ""),
    ],
)
def test_html_becomes_one_line_of_text(value, text):
    assert plain_text(value) == text


def test_long_texts_are_cut_in_little_time():
    start = time.monotonic()
    assert plain_text("Ann" * 1_000_000) == ("Ann" * 200)[:500]
    for part in ("<", "<script", "<!--", "&", "<a <", "</script"):
        plain_text(part * 100_000)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("//upload.org/a.jpg", "https://upload.org/a.jpg"),
        (" http://a.org/b c.jpg\n", "http://a.org/b%20c.jpg"),
        ("http://a.org/" + "x" * 5000, ""),
        ("data:image/png;base64,AAAA", ""),
        ("http://a.org/\ud800", ""),
    ],
)
def test_a_url_is_kept_if_it_can_be_a_source(url, kept):
    assert Found.of(url).url == kept


def test_requests_of_a_service_keep_their_distance():
    with serving(lambda request: {}) as server:
        interface = Interface("test", server.url, seconds_between=0.3)
        start = time.monotonic()
        for _ in range(3):
            interface.get({})
    assert time.monotonic() - start >= 0.6


def test_an_answer_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(web, "MAX_BYTES", 1000)
    with serving(lambda request: {"results": "x" * 2000}) as server:
        interface = Interface("test", server.url)
        with pytest.raises(ImgclfError, match="the answer is larger than 0.001 MB"):
            interface.get({})
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(web, "BACK_OFF_SECONDS", 0.01)
    with serving(lambda request: {}) as server:
        pass
    with pytest.raises(ImgclfError, match=rf"test \({server.url}\) cannot be searched: no connection"):
        Interface("test", server.url).get({})
