"""What should never be sent, each with the status and the words that it should be answered by."""

import base64
import gzip
import io
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from support.pictures import jpeg, png

Content = bytes | Callable[[], bytes | Iterator[bytes]]


@dataclass(frozen=True)
class Bad:
    """A request, and how it should be answered: by this status, with these words. `content` is a function where it is large."""

    status: int
    says: str
    content: Content = b""
    kind: str | None = "application/json"
    method: str = "POST"
    address: str = "/score"
    headers: dict[str, str] = field(default_factory=dict)

    def made(self) -> bytes | Iterator[bytes]:
        return self.content() if callable(self.content) else self.content


def saved(kind: str, side: int = 64, **settings) -> bytes:
    """A real picture in some format."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3)).astype(np.uint8)
    PillowImage.fromarray(pixels).save(file, kind, **settings)
    return file.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def image(status: int, says: str, content: Content, kind: str = "image/jpeg") -> Bad:
    return Bad(status, says, content, kind)


def compressed(status: int, says: str, content: Content) -> Bad:
    return Bad(status, says, content, "image/jpeg", headers={"Content-Encoding": "gzip"})


def as_json(status: int, says: str, value: object) -> Bad:
    return Bad(status, says, json.dumps(value).encode())


def form(
    status: int,
    says: str,
    *parts: bytes,
    kind: str = "multipart/form-data; boundary=B",
    end: bytes = b"--B--\r\n",
) -> Bad:
    return Bad(status, says, b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + end, kind)


def part(content: bytes, name: str = "images", filename: str | None = "a.jpg") -> bytes:
    more = f'; filename="{filename}"' if filename is not None else ""
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose header says that it is larger than it is."""
    content = bytearray(saved("JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def tiff_in_a_circle() -> bytes:
    """A TIFF whose first directory is followed by itself, and holds no picture."""
    return b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 256, 4, 1, 64) + struct.pack("<I", 8)


def gif_of_size(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HH", width, height)
        + b"\x80\0\0"
        + bytes(6)
        + b","
        + struct.pack("<HHHH", 0, 0, width, height)
        + b"\0\x02\x02\x44\x01\0;"
    )


def bmp_of_size(width: int, height: int) -> bytes:
    content = bytearray(saved("BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def text_chunks() -> bytes:
    note = PngInfo()
    for i in range(2000):
        note.add_text(f"key{i}", "x" * 100)
    return half(saved("PNG", pnginfo=note))


NOT_AN_IMAGE = "not an image that can be read"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(/tmp/x) (w) file closefile showpage\n%%EOF\n"
PIECE = bytes(1 << 20)

IMAGES = {
    "nothing": image(422, "the file is empty", b""),
    "text": image(422, NOT_AN_IMAGE, b"this is no image"),
    "zeros": image(422, NOT_AN_IMAGE, bytes(100_000)),
    "html": image(422, NOT_AN_IMAGE, b"<!DOCTYPE html><script>alert(1)</script>"),
    "svg": image(
        422,
        "an SVG drawing, which is not read; convert it to JPEG or PNG",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "image/svg+xml",
    ),
    "postscript": image(422, "a PostScript drawing, which is not read", EPS),
    "pdf": image(422, "a PDF, which is not read", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF"),
    "zip": image(422, NOT_AN_IMAGE, b"PK\x03\x04" + bytes(100)),
    "gzip of an image": image(422, NOT_AN_IMAGE, lambda: gzip.compress(jpeg("red"))),
    "base64 instead of the bytes": image(422, NOT_AN_IMAGE, lambda: base64.b64encode(jpeg("red"))),
    "half a JPEG": image(422, "the JPEG is truncated", lambda: half(saved("JPEG"))),
    "half a PNG": image(422, "the PNG is damaged", lambda: half(saved("PNG"))),
    "half a WebP": image(422, "", lambda: half(saved("WEBP"))),
    "half a GIF": image(422, "the GIF is damaged", lambda: half(saved("GIF"))),
    "half a BMP": image(422, "the BMP is damaged", lambda: half(saved("BMP"))),
    "half a TIFF": image(422, "", lambda: half(saved("TIFF"))),
    "half an AVIF": image(422, "", lambda: half(saved("AVIF"))),
    "only the start of a JPEG": image(422, "", b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
    "a PNG's first bytes": image(422, "the PNG is damaged", b"\x89PNG\r\n\x1a\n"),
    "a PNG of 900 megapixels in 100 KB": image(
        422, "30000 x 30000 pixels, more than 200,000,000; shrink it", lambda: png(30_000, 30_000)
    ),
    "a PNG just above the limit": image(
        422, "14000 x 15000 pixels, more than 200,000,000", lambda: png(14_000, 15_000)
    ),
    "half a PNG with 2,000 texts": image(422, "the PNG is damaged", text_chunks),
    "a JPEG that says it is huge": image(422, "65500 x 65500 pixels", lambda: jpeg_of_size(65_500, 65_500)),
    "a GIF that says it is huge": image(422, "65535 x 65535 pixels", lambda: gif_of_size(65_535, 65_535)),
    "a BMP that says it is huge": image(
        422, "1000000 x 1000000 pixels", lambda: bmp_of_size(1_000_000, 1_000_000)
    ),
    "a BMP of negative width": image(422, "", lambda: bmp_of_size(-5, 5)),
    "a TIFF in a circle": image(422, "", tiff_in_a_circle),
}

TYPES = {
    "no type": Bad(415, "Content-Type is missing: not supported; send one raw image", jpeg("red"), None),
    "an empty type": Bad(415, "Content-Type is missing", jpeg("red"), ""),
    "text": Bad(415, "Content-Type text/plain: not supported", b"hello", "text/plain"),
    "what curl sends by itself": Bad(
        415,
        "application/x-www-form-urlencoded: not supported",
        jpeg("red"),
        "application/x-www-form-urlencoded",
    ),
    "xml": Bad(415, "application/xml: not supported", b"<a/>", "application/xml"),
    "octets that are no image": Bad(422, "not an image", b"hello", "application/octet-stream"),
    "image without a slash": Bad(415, "Content-Type image: not supported", jpeg("red"), "image"),
    "a type of 4,000 letters": Bad(415, "xxx: not supported", jpeg("red"), "x" * 4000),
    "compressed by brotli": Bad(
        415, "Content-Encoding 'br': not supported", b"x", "image/jpeg", headers={"Content-Encoding": "br"}
    ),
    "compressed twice": Bad(
        415, "'gzip, gzip': not supported", b"x", "image/jpeg", headers={"Content-Encoding": "gzip, gzip"}
    ),
    "gzip that is none": compressed(400, "the body is not gzip", lambda: jpeg("red")),
    "half a gzip": compressed(400, "the body is not gzip", lambda: half(gzip.compress(jpeg("red")))),
    "a gzip and more": compressed(400, "the body is not gzip", lambda: gzip.compress(jpeg("red")) + b"x"),
    "a gzip of 1 GB": compressed(
        413, "becomes larger than 32,000,000 bytes", lambda: gzip.compress(bytes(10**9))
    ),
    "a gzip of no image": compressed(422, "not an image", lambda: gzip.compress(b"hello")),
    "charset: unknown": Bad(415, "charset 'klingon'", b"{}", "application/json; charset=klingon"),
    "charset: no text": Bad(415, "charset 'hex'", b"7b7d", "application/json; charset=hex"),
    "charset: wrong": Bad(400, "the JSON is not utf-16", b"{}\xd8", "application/json; charset=utf-16"),
}

JSON = {
    "nothing": Bad(400, "Invalid JSON", b""),
    "half an object": Bad(400, "Invalid JSON", b'{"images": ["'),
    "text": Bad(400, "Invalid JSON", b"hello"),
    "zeros": Bad(400, "Invalid JSON", bytes(1000)),
    "not UTF-8": Bad(400, "Invalid JSON", b'{"images": ["\xff\xfe"]}'),
    "UTF-16": Bad(400, "images is empty", '{"images": []}'.encode("utf-16")),
    "single quotes": Bad(400, "Invalid JSON", b"{'images': []}"),
    "a list": as_json(400, "should be an object", []),
    "a text": as_json(400, "should be an object", "images"),
    "a number": as_json(400, "should be an object", 1),
    "null": as_json(400, "should be an object", None),
    "an empty object": as_json(400, "must have one of the keys", {}),
    "no known key": as_json(400, "the unknown key 'pictures'; send", {"pictures": []}),
    "a key beside": as_json(400, "the unknown key '\\xe9\\xe9", {"images": ["YQ=="], "é" * 1000: 1}),
    "two contracts": as_json(400, "must have one of the keys", {"images": ["YQ=="], "data": ["YQ=="]}),
    "images: null": as_json(400, "valid array", {"images": None}),
    "images: a text": as_json(400, "valid array", {"images": "YQ=="}),
    "images: an object": as_json(400, "valid array", {"images": {}}),
    "images: none": as_json(400, "images is empty", {"images": []}),
    "images: numbers": as_json(400, "valid string", {"images": [1]}),
    "images: null in it": as_json(400, "valid string", {"images": [None]}),
    "images: a list in it": as_json(400, "valid string", {"images": [["YQ=="]]}),
    "images: 33": as_json(
        413, "images holds 33 images, more than 32; send them in several requests", {"images": ["YQ=="] * 33}
    ),
    "images: a million": as_json(413, "more than 1,960 of the characters", {"images": ["YQ=="] * 1_000_000}),
    "a million keys": Bad(
        413,
        "more than 1,960 of the characters",
        lambda: json.dumps({f"label{i}": i for i in range(1_000_000)}).encode(),
    ),
    "five million empty lists": Bad(
        413,
        "more than 1,960 of the characters",
        lambda: b'{"images": [' + b",".join([b"[]"] * 5_000_000) + b"]}",
    ),
    "lists a hundred thousand deep": Bad(
        413,
        "more than 1,960 of the characters",
        lambda: b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ),
    "lists a thousand deep": Bad(400, "recursion", b'{"images": ' + b"[" * 1000 + b"]" * 1000 + b"}"),
    "ten million empty lists under an unknown key": Bad(
        413, "more than 1,960 of the characters", lambda: b'{"x": [' + b",".join([b"[]"] * 10_000_000) + b"]}"
    ),
    "objects a hundred thousand deep": Bad(
        413, "more than 1,960 of the characters", lambda: b'{"images":' * 100_000 + b"1" + b"}" * 100_000
    ),
    "a number of a million digits": Bad(400, "", lambda: b'{"images": [' + b"9" * 1_000_000 + b"]}"),
    "NaN": Bad(400, "", b'{"images": [NaN]}'),
    "half a pair of surrogates": Bad(400, "", b'{"images": ["\\ud800"]}'),
    "base64: letters that are none": as_json(400, "images[0]: not base64", {"images": ["!!!!"]}),
    "base64: no padding": as_json(422, "images[0]: not an image", {"images": ["YWI"]}),
    "base64: one letter too many": as_json(400, "not base64", {"images": ["YWJjZ"]}),
    "base64: for URLs": as_json(422, "images[0]: not an image", {"images": ["_-_-"]}),
    "base64: NUL": as_json(400, "not base64", {"images": ["YQ==\0"]}),
    "base64: not ASCII": as_json(400, "not base64", {"images": ["ÄÖÜß"]}),
    "base64: a data URL without base64": as_json(
        400, "images[0]: a data URL without base64", {"images": ["data:image/svg+xml,%3Csvg/%3E"]}
    ),
    "base64: a data URL without an image": as_json(
        422, "images[0]: the file is empty", {"images": ["data:image/jpeg;base64,"]}
    ),
    "base64: the second one": Bad(
        400, "images[1]: not base64", lambda: json.dumps({"images": [base64_of(jpeg("red")), "?"]}).encode()
    ),
    "base64: empty": as_json(422, "images[0]: the file is empty", {"images": [""]}),
    "base64 of text": as_json(422, "images[0]: not an image", {"images": [base64_of(b"hello")]}),
    "tutorial: no record": as_json(400, "input_df is empty", {"input_df": []}),
    "tutorial: no list": as_json(400, "valid array", {"input_df": {}}),
    "tutorial: a text as record": as_json(400, "", {"input_df": ["YQ=="]}),
    "tutorial: another column": as_json(400, "Field required", {"input_df": [{"image": "YQ=="}]}),
    "tutorial: null": as_json(400, "valid string", {"input_df": [{"image base64 string": None}]}),
    "tutorial: no base64": as_json(
        400, "input_df[0]: not base64", {"input_df": [{"image base64 string": "b'?'"}]}
    ),
    "tutorial: no image": as_json(
        422, "input_df[0]: not an image", {"input_df": [{"image base64 string": "aGVsbG8="}]}
    ),
    "successor: no list": as_json(400, "valid array", {"data": "YQ=="}),
    "successor: none": as_json(400, "data is empty", {"data": []}),
    "successor: no base64": as_json(400, "data[0]: not base64", {"data": ["?"]}),
    "successor: no image": as_json(422, "data[0]: not an image", {"data": ["YQ=="]}),
}

GOOD = part(jpeg("red"))
FORMS = {
    "no boundary": form(400, "boundary", GOOD, kind="multipart/form-data"),
    "another boundary": form(400, "the form", GOOD, kind="multipart/form-data; boundary=C"),
    "an empty boundary": form(400, "", GOOD, kind="multipart/form-data; boundary="),
    "a boundary of 10,000 letters": form(400, "", GOOD, kind="multipart/form-data; boundary=" + "B" * 10_000),
    "nothing": form(400, "", end=b""),
    "no parts": form(400, "must hold files in the field 'images'"),
    "a value, no file": form(400, "must hold files", part(b"YQ==", filename=None)),
    "a value beside a file": form(400, "must hold files", GOOD, part(b"1", "threshold", None)),
    "another field": form(
        400, "must hold files in the field 'images' and nothing else", part(jpeg("red"), "picture")
    ),
    "two values": form(400, "Too many fields", part(b"", "a", None), part(b"", "b", None)),
    "33 files": form(413, "Too many files", *[part(b"x")] * 33),
    "50,000 empty files": Bad(
        413,
        "Too many files",
        lambda: form(0, "", *[part(b"")] * 50_000).content,
        "multipart/form-data; boundary=B",
    ),
    "no name": form(400, "name", b'Content-Disposition: form-data; filename="a.jpg"\r\n\r\nx'),
    "no headers in the part": form(400, "", b"\r\nx"),
    "a header without end": form(400, "", b"Content-Disposition: " + b"x" * 100_000),
    "10,000 headers in a part": form(400, "", b"".join(b"X-%d: y\r\n" % i for i in range(10_000)) + b"\r\nx"),
    "broken off": form(400, "", GOOD, end=b""),
    "an empty file": form(422, "images[0]: the file is empty", part(b"")),
    "a file that is no image": form(422, "images[1]: not an image", GOOD, part(b"hello")),
    "a multipart in it": form(
        422,
        "not an image",
        b'Content-Disposition: form-data; name="images"; filename="a"\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n--C--',
    ),
    "a path as file name": form(
        422, "images[0]: not an image", part(b"x", filename="../../../../etc/passwd")
    ),
    "a NUL in the file name": form(422, "images[0]: not an image", part(b"x", filename="a\0.jpg")),
}

ADDRESSES = {
    **{
        f"{method} /score": Bad(405, "the header Allow says which", method=method)
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
    },
    "POST /health": Bad(405, "the header Allow says which", address="/health"),
    "POST /": Bad(405, "the header Allow says which", address="/"),
    **{
        f"GET {address[:40]}": Bad(404, "send images to POST /score", method="GET", address=address)
        for address in (
            "/nothing",
            "/docs",
            "/redoc",
            "/score.php",
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/page/index.html",
            "/page.js%00.html",
            "/%00",
            "/%ff%fe",
            "/a" * 4000,
            "/api/v1/service/score",
            "/.env",
            "//evil.example/",
            "/index.html",
        )
    },
    "POST /score/": Bad(404, "send images to POST /score", address="/score/"),
    "POST /SCORE": Bad(404, "send images to POST /score", address="/SCORE"),
    "a name with a slash": Bad(404, "send images to POST /score", address="/api/v1/service/a/b/score"),
}

SIZES = {
    "33 MB": Bad(
        413,
        "the body is larger than 32,000,000 bytes; send fewer images a request, or smaller ones",
        lambda: bytes(33_000_000),
        "image/jpeg",
    ),
    "1 GB, with Content-Length": Bad(
        413,
        "the body is larger than",
        lambda: iter([PIECE] * 1024),
        "image/jpeg",
        headers={"Content-Length": str(1 << 30)},
    ),
    "1 GB, chunked": Bad(413, "the body is larger than", lambda: iter([PIECE] * 1024), "image/jpeg"),
    "1 GB to an address that there is not": Bad(
        413,
        "the body is larger than",
        lambda: iter([PIECE] * 1024),
        "image/jpeg",
        address="/nothing",
        headers={"Content-Length": str(1 << 30)},
    ),
    "1 GB of a form, chunked": Bad(
        413,
        "the body is larger than",
        lambda: iter([form(0, "", part(PIECE), end=b"").content] + [PIECE] * 1023),
        "multipart/form-data; boundary=B",
    ),
}

ALL = {
    f"{kind}: {name}": bad
    for kind, group in (
        ("image", IMAGES),
        ("type", TYPES),
        ("json", JSON),
        ("form", FORMS),
        ("address", ADDRESSES),
        ("size", SIZES),
    )
    for name, bad in group.items()
}

# Not HTTP, or HTTP as no client library would send it.
RAW = {
    "no HTTP": (400, b"HELLO\r\n\r\n"),
    "TLS": (400, bytes.fromhex("16030100fa010000f60303") + bytes(200)),
    "binary": (400, bytes(range(256)) * 4),
    "no version": (400, b"GET /health\r\nHost: localhost\r\n\r\n"),
    "no host": (400, b"GET /health HTTP/1.1\r\n\r\n"),
    "a space in the address": (400, b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "a header of 1 MB": (
        400,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    ),
    "a NUL in a header": (400, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n"),
    "a header without a name": (400, b"GET /health HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n"),
    "a length that is no number": (
        400,
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
    ),
    "a negative length": (400, b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"),
    "two lengths": (
        400,
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ),
    "a length of 10^30": (
        400,
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1" + b"0" * 30 + b"\r\n\r\n",
    ),
    "a length of 10^18": (
        413,
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1"
        + b"0" * 18
        + b"\r\n\r\n",
    ),
    "chunks of no size": (
        400,
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ),
    "an unknown transfer": (
        400,
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: zip\r\n\r\n",
    ),
    "headers that never end": (408, b"POST /score HTTP/1.1\r\nHost: localhost\r\nX-Slow: "),
    "nothing at all": (408, b""),
    "a body that never comes": (
        408,
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nx",
    ),
    "chunks that never end": (
        408,
        b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    ),
}
