"""A web page that a person opens elsewhere cannot use the service on their machine, unless it is allowed by name."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from browser.conftest import chromium  # noqa: F401 - a fixture

from imgclf import ImgclfError
from imgclf.service import origins
from support.pictures import jpeg
from support.serving import Server

TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def open_server(serve) -> Server:
    """A service that other hosts and pages may use."""
    return serve(
        "--allowed-host", "*.example.com", "--allow-origin", "https://shop.example/", "--allow-origin", "http://localhost:3000"
    )  # fmt: skip


@pytest.fixture(scope="module")
def guarded(serve) -> Server:
    return serve(environment={"IMGCLF_TOKEN": TOKEN}, headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0", "10.0.0.1", "[::2]", "localhost@evil.example", "[", ""])  # fmt: skip
@pytest.mark.parametrize(("method", "address"), [("POST", "/score"), ("GET", "/metadata"), ("GET", "/"), ("GET", "/nothing")])  # fmt: skip
def test_a_request_for_another_host_is_rejected(server, method, address, host):
    response = server.http.request(method, address, headers={"Host": host}, content=jpeg("red"))
    assert response.status_code == 421
    assert "start it with --allowed-host" in response.json()["error"]


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:1", "localhost.", "127.0.0.1", "127.8.0.1:80", "[::1]:8080"]
)
def test_loopback_names_are_served(server, host):
    assert server.score(jpeg("red"), Host=host).status_code == 200


def test_a_named_host_is_served_and_another_is_not(open_server):
    assert open_server.score(jpeg("red"), Host="a.example.com:443").status_code == 200
    assert open_server.score(jpeg("red"), Host="localhost").status_code == 200
    assert open_server.score(jpeg("red"), Host="example.org").status_code == 421


def test_with_a_token_any_host_is_served(guarded):
    assert guarded.score(jpeg("red"), Host="imgclf.default.svc.cluster.local").status_code == 200


@pytest.mark.parametrize("address", ["/health", "/ready"])
def test_probes_by_the_address_of_a_pod_are_answered(server, address):
    assert server.http.get(address, headers={"Host": "10.1.2.3:8080"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "{own}"},
        {"Origin": "http://[", "Content-Type": "image/jpeg"},
        {"Origin": "https://shop.example"},
    ],
    ids=str,
)
@pytest.mark.parametrize("address", ["/score", "/api/v1/service/x/score"])
def test_a_post_from_another_page_is_rejected_whatever_the_token(server, guarded, address, headers):
    for one in (server, guarded):
        own = {name: value.format(own=one.url) for name, value in headers.items()}
        response = one.http.post(address, content=jpeg("red"), headers={"Content-Type": "image/jpeg", **own})
        assert response.status_code == 403 and "--allow-origin" in response.json()["error"]
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "{own}"},
        {"Origin": "https://localhost", "Host": "localhost:443"},
    ],
    ids=str,
)
def test_its_own_page_and_clients_that_are_no_browser_are_served(server, headers):
    own = {name: value.format(own=server.url) for name, value in headers.items()}
    assert server.score(jpeg("red"), **own).status_code == 200


def test_an_allowed_page_may_read_the_answer_and_another_may_not(open_server):
    answer = open_server.score(jpeg("red"), Origin="https://shop.example")
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (
        200,
        "https://shop.example",
    )
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin, status in (("https://shop.example", 200), ("https://evil.example", 400)):
        assert open_server.http.options("/score", headers={"Origin": origin, **asked}).status_code == status
    assert open_server.score(jpeg("red"), Origin="https://evil.example").status_code == 403
    missing = open_server.http.post("/score", headers={"Origin": "https://shop.example"})
    assert missing.headers["Access-Control-Allow-Origin"] == "https://shop.example"  # errors can be read too


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://example.com:443", "https://example.com"),
        ("HTTPS://Example.com:443/", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://[::2]:80", "http://[::2]"),
        ("http://[::80]", "http://[::80]"),
        ("https://example.com:80", "https://example.com:80"),
        ("http://example.com:8080", "http://example.com:8080"),
        ("*", "*"),
    ],
)
def test_an_allowed_origin_is_compared_as_browsers_send_it(given, sent):
    assert origins.allowed("127.0.0.1", has_token=False, allow_origins=[given]).pages == (sent,)


@pytest.mark.parametrize("host", ["https://example.com", "example.com:8080", "a b", ""])
def test_a_malformed_host_is_refused(host):
    with pytest.raises(ImgclfError, match="--allowed-host .*: not a host name; give it without scheme"):
        origins.allowed("127.0.0.1", has_token=False, allowed_hosts=[host])


@pytest.mark.parametrize("origin", ["example.com", "https://example.com/page", "null", ""])
def test_a_malformed_origin_is_refused(origin):
    with pytest.raises(ImgclfError, match="--allow-origin .*: not an origin; give scheme and host"):
        origins.allowed("127.0.0.1", has_token=False, allow_origins=[origin])


@pytest.fixture
def other_page() -> Iterator[str]:
    """The URL of a page of another origin."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>other</title>")

        def log_message(self, *message: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield f"http://localhost:{other.server_port}"
        other.shutdown()
        thread.join()


POST = """async ([url, content]) => {
    const form = new FormData();
    form.append('images', new Blob([Uint8Array.from(content)]), 'a.jpg');
    await fetch(url + '/score', {method: 'POST', mode: 'no-cors', body: form}).catch(() => null);  // it may not read the answer
}"""


def test_a_page_in_a_browser_makes_the_service_score_nothing(server, other_page, chromium):  # noqa: F811
    from playwright.sync_api import sync_playwright

    before = server.metric("imgclf_images_total")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page()
        page.goto(other_page)
        page.evaluate(POST, [server.url, list(jpeg("red"))])
        browser.close()
    assert server.metric("imgclf_images_total") == before
    assert 'imgclf_requests_total{status="403"}' in httpx.get(f"{server.url}/metrics").text
