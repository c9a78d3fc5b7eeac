"""Answers of a search service: what is found becomes a manifest and a page that runs nothing, or is refused."""

import json
import shutil

from hypothesis import strategies as st

from imgclf import files
from imgclf.collect import attribution, manifest, search
from imgclf.collect.queries import Query
from imgclf.collect.search import commons, web
from support.html_elements import Elements
from support.json_server import serving
from support.mutations import TEXT, TEXTS, damaged
from support.pictures import jpeg

INFO = {"mime": "image/jpeg", "thumburl": "http://a.org/a.jpg", "descriptionurl": "http://a.org", "extmetadata": {"Artist": {"value": "<b>Ann"}, "LicenseShortName": {"value": "CC0"}}}  # fmt: skip
REAL = {
    "openverse": {"page_count": 2, "results": [{"url": "http://a.org/a.jpg", "license": "by-sa", "license_version": "2.0", "creator": "Ann", "title": "A", "foreign_landing_url": "http://a.org"}]},
    "commons": {"continue": {"gsroffset": 1, "continue": "gsroffset||"}, "query": {"pages": [{"index": 1, "title": "File:A.jpg", "imageinfo": [INFO]}]}},
    "inaturalist": {"results": [{"id": 7, "uri": "http://a.org", "user": {"login": "ann"}, "taxon": {"name": "Vulpes"}, "photos": [{"url": "http://a.org/square.jpg", "license_code": "cc-by"}]}]},
    "brave": {"results": [{"url": "http://a.org", "title": "A", "properties": {"url": "http://a.org/a.jpg"}}]},
}  # fmt: skip
PARTS = st.sampled_from(
    ["http://a.org/ä%2F..%2Fa.jpg", "https://[", "file:///etc/passwd", "javascript:x()", "<script>x()</script>", "<![a[", "\ud800", "\t\n", "a" * 9999, None, -1, 1e400, [], {}]
)  # fmt: skip
VALUES = st.recursive(
    PARTS | TEXTS,
    lambda some: st.lists(some, max_size=2) | st.dictionaries(TEXTS, some, max_size=2),
    max_leaves=3,
)


@st.composite
def answers(draw, real: object) -> object:
    """An answer in which some values, of any depth, are others."""
    if draw(st.integers(0, 7)) == 0:
        return draw(VALUES)
    if isinstance(real, dict):
        return {key: draw(answers(value)) for key, value in real.items() if draw(st.integers(0, 15))}
    return [draw(answers(value)) for value in real] if isinstance(real, list) else real


def test_answers_of_a_search(fuzz, monkeypatch):
    monkeypatch.setattr(web, "BACK_OFF_SECONDS", 0)
    monkeypatch.setattr(commons, "BUSY_SECONDS", 0)
    monkeypatch.setenv("BRAVE_SEARCH_API_KEY", "key")
    whole = {name: json.dumps(real).encode() for name, real in REAL.items()}
    folder = files.data_dir() / "images" / "fruit" / "red"
    folder.mkdir(parents=True)

    def becomes_a_manifest(inputs: dict[str, bytes]) -> str:
        name, content = inputs["service"].decode(), inputs["answer"].decode(errors="replace")
        shutil.rmtree(files.proc_dir("fruit"), ignore_errors=True)
        manifest.own("fruit").unlink(missing_ok=True)
        with serving(lambda request: (200, {}, content)) as server:
            service = search.service(name, url=server.url)
            found, again = (
                search.run(service, [Query("red", "red")], dataset_name="fruit", images_per_query=9)
                for _ in range(2)
            )
        assert found.hits == again.hits
        entries = manifest.read(search.write_manifest(found, "fruit"))
        for entry in entries:
            (folder / f"{entry.stem}.jpg").write_bytes(jpeg("red"))
        page = Elements(attribution.write("fruit").read_text(encoding="utf-8"))
        for entry in entries:
            (folder / f"{entry.stem}.jpg").unlink()
        assert not {"script", "b"} & {tag for tag, _ in page.elements}
        return name

    names = st.sampled_from(list(REAL))
    mixed = names.flatmap(
        lambda name: st.tuples(st.just(name), answers(REAL[name]).map(lambda a: json.dumps(a).encode()))
    )
    broken = names.flatmap(lambda name: st.tuples(st.just(name), damaged([whole[name]], TEXT)))
    fuzz(
        (mixed | broken).map(lambda pair: {"service": pair[0].encode(), "answer": pair[1]}),
        becomes_a_manifest,
    )
