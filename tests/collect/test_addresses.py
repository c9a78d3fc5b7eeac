"""No list of images makes this machine ask itself or its own network."""

import datetime
import ipaddress
import socket
import ssl

import pytest

from imgclf import ImgclfError, downloads
from imgclf.collect import fetch
from imgclf.collect.fetch import fetch_images
from imgclf.collect.manifest import Entry
from imgclf.downloads import is_public
from support.image_server import JPEG, Internet, redirect, serving

PUBLIC, OTHER = "93.184.216.34", "151.101.1.140"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def inside():
    """A second server, which no image may come from."""
    with serving() as server:
        server.entry("secret.jpg")
        yield server
        assert not server.asked


@pytest.fixture
def internet(server, monkeypatch):
    """The name photos.example, whose public address leads to `server`."""
    internet = Internet()
    monkeypatch.setattr(socket, "getaddrinfo", internet.getaddrinfo)
    internet.servers[PUBLIC] = server.server_port
    internet.names["photos.example"] = [[PUBLIC]]
    return internet


@pytest.fixture(autouse=True)
def without_proxies(folder, monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def failure(folder, *urls):
    """Why none of the URLs gave an image, while another one did."""
    good = Entry("apple", "http://photos.example/good.jpg")
    result = fetch_images([good, *(Entry("apple", url) for url in urls)], folder)
    assert result.fetched == 1
    return [failed.reason for failed in result.failures]


REFUSED = "is not on the public internet; set private_addresses=True to allow it"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "0.1.2.3",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "168.63.129.16",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "100::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "5f00::1",
    ],
)
def test_address_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", PUBLIC, "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_address_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "user:word@127.0.0.1",
        "photos.example@127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
    ],
)
def test_url_of_this_machine_is_refused_in_every_spelling(server, inside, internet, folder, host):
    server.entry("good.jpg")
    (reason,) = failure(folder, f"http://{host}:{inside.server_port}/secret.jpg")
    assert reason.endswith(REFUSED)


@pytest.mark.parametrize(
    "host",
    [
        "0177.0.0.1",
        "\uff11\uff12\uff17.0.0.1",
    ],
)
def test_url_that_may_or_may_not_mean_this_machine_is_none(server, inside, internet, folder, host):
    server.entry("good.jpg")
    (reason,) = failure(folder, f"http://{host}:{inside.server_port}/secret.jpg")
    assert reason.startswith("not a URL that can be fetched")


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["::1", PUBLIC], ["::ffff:127.0.0.1"]]
)
def test_name_with_a_private_address_is_refused(server, inside, internet, folder, addresses):
    server.entry("good.jpg")
    internet.names["trap.example"] = [addresses]
    (reason,) = failure(folder, f"http://trap.example:{inside.server_port}/secret.jpg")
    private = next(address for address in addresses if address != PUBLIC)
    assert reason == f"trap.example ({private}) {REFUSED}"


@pytest.mark.parametrize("host", ["127.0.0.1", "trap.example", "localhost"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_a_private_address_is_refused(server, inside, internet, folder, host, status):
    internet.names["trap.example"] = [["127.0.0.1"]]
    server.entry("good.jpg")
    server.entry("a.jpg", redirect("http://photos.example/b.jpg"))
    server.entry("b.jpg", redirect(f"http://{host}:{inside.server_port}/secret.jpg", status))
    (reason,) = failure(folder, "http://photos.example/a.jpg")
    assert reason.startswith(host) and reason.endswith(REFUSED)


def test_name_whose_address_changes_after_the_check_leads_to_the_checked_one(
    server, inside, internet, folder
):
    def and_hang_up(handler):
        handler.give(200, JPEG, Connection="close")
        handler.close_connection = True

    for name in ("a.jpg", "b.jpg"):
        server.entry(name, and_hang_up)
    internet.names["trap.example"] = [[PUBLIC], ["127.0.0.1"]]
    port = inside.server_port
    result = fetch_images(
        [Entry("apple", f"http://trap.example:{port}/{name}.jpg") for name in "ab"], folder, threads=1
    )
    # The first connection is made with one lookup; the second one needs another, which is checked too.
    assert [f.reason for f in result.failures] == [f"trap.example (127.0.0.1) {REFUSED}"]
    assert server.asked == {"/a.jpg": 1} and internet.lookups["trap.example"] == 2
    assert (folder / "apple/a.jpg").read_bytes() == JPEG


def test_request_has_the_name_of_the_host_and_not_its_address(server, internet, folder):
    server.entry("good.jpg")
    assert failure(folder) == []
    assert server.hosts == {"photos.example"}


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """A server's TLS for photos.example, which clients trust, and the names that it was asked for."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "photos.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("photos.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(private + public)
    (tmp_path / "trusted.pem").write_bytes(public)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.names = []
    context.sni_callback = lambda _, name, context: context.names.append(name)
    return context


def test_tls_verifies_the_name_and_not_the_address(internet, folder, tls):
    internet.names["impostor.example"] = [[PUBLIC]]
    with serving(tls) as server:
        server.entry("good.jpg")
        internet.servers[PUBLIC] = server.server_port
        entries = [Entry("apple", f"https://{name}.example/good.jpg") for name in ("photos", "impostor")]
        result = fetch_images(entries, folder, threads=1)
    assert result.fetched == 1 and "CERTIFICATE_VERIFY_FAILED" in result.failures[0].reason
    assert tls.names[0] == "photos.example" and set(tls.names) == {"photos.example", "impostor.example"}


def test_address_without_a_server_is_followed_by_the_next(server, internet, folder):
    server.entry("good.jpg")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        internet.servers[OTHER] = listener.getsockname()[1]  # closed when it is asked
    internet.names["photos.example"] = [[OTHER, PUBLIC]]
    assert failure(folder) == []


def test_ipv6_and_ipv4_addresses_are_tried_in_turn(internet):
    internet.names["many.example"] = [["2606:4700::1", "2606:4700::2", "2606:4700::3", PUBLIC, OTHER]]
    assert downloads._lookup("many.example", 80) == [
        "2606:4700::1",
        PUBLIC,
        "2606:4700::2",
        OTHER,
        "2606:4700::3",
    ]


def test_unknown_name_is_an_unreachable_server(server, internet, folder):
    server.entry("good.jpg")
    (reason,) = failure(folder, "http://nowhere.invalid/a.jpg")
    assert reason.startswith("no connection (")


def test_private_addresses_can_be_allowed_after_a_refusal(server, internet, folder):
    server.entry("good.jpg")
    entries = [Entry("apple", "http://photos.example/good.jpg"), server.entry("mine.jpg")]
    assert len(fetch_images(entries, folder).failures) == 1
    assert len(fetch_images(entries, folder).failures) == 1  # known by the file of failures
    assert server.asked["/mine.jpg"] == 0
    assert not fetch.is_incomplete(entries, folder)
    assert fetch_images(entries, folder, private_addresses=True).fetched == 1


def test_list_of_an_intranet_gets_one_error_that_names_the_parameter(server, internet, folder):
    internet.names["photos.intranet"] = [["10.1.2.3"]]
    entries = [Entry("apple", f"http://photos.intranet/{i}.jpg") for i in range(30)]
    for _ in range(2):
        with pytest.raises(
            ImgclfError,
            match=r"^none of the 30 images could be fetched: photos.intranet \(10.1.2.3\) is not on the "
            "public internet; set private_addresses=True to allow it, if you trust the list$",
        ):
            fetch_images(entries, folder)


def test_a_few_private_addresses_among_dead_links_are_failures_like_others(server, internet, folder):
    entries = [Entry("apple", f"http://photos.example/{i}.jpg") for i in range(5)]
    result = fetch_images([*entries, Entry("apple", "http://10.0.0.1/a.jpg")], folder)
    assert [f.reason for f in result.failures] == ["HTTP 404 Not Found"] * 5 + [f"10.0.0.1 {REFUSED}"]


@pytest.fixture
def proxy(monkeypatch):
    with serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        yield proxy


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "192.168.1.1", "[fd00::1]", "files.intranet", "169.254.169.254"]
)
def test_proxy_is_not_asked_for_a_private_address_that_this_machine_knows(internet, proxy, folder, host):
    internet.names["files.intranet"] = [["10.0.0.9"]]
    proxy.pages["http://only.the.proxy.invalid/good.jpg"] = [(200, JPEG)]
    entries = [Entry("apple", f"http://{host}/{i}.jpg") for i in range(3)]
    result = fetch_images(
        [Entry("apple", "http://only.the.proxy.invalid/good.jpg"), *entries], folder, threads=1
    )
    assert [f.reason.endswith(REFUSED) for f in result.failures] == [True] * 3
    assert set(proxy.asked) == {"http://only.the.proxy.invalid/good.jpg"}
    assert internet.lookups["files.intranet"] in (0, 1)


def test_redirect_of_a_proxy_to_a_private_address_is_refused(inside, proxy, folder):
    address = f"http://127.0.0.1:{inside.server_port}/secret.jpg"
    proxy.pages["http://far.invalid/a.jpg"] = [redirect(address)]
    proxy.pages["http://far.invalid/b.jpg"] = [redirect("http://10.0.0.1/secret.jpg")]
    entries = [Entry("apple", f"http://far.invalid/{name}.jpg") for name in "ab"]
    with pytest.raises(ImgclfError, match="none of the 2 images could be fetched: .* private_addresses=True"):
        fetch_images(entries, folder)
    assert set(proxy.asked) == {"http://far.invalid/a.jpg", "http://far.invalid/b.jpg"}


def test_addresses_of_this_test_are_what_they_seem():
    assert all(ipaddress.ip_address(address).is_global for address in (PUBLIC, OTHER))
