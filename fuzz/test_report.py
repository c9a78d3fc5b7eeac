"""The notebook of a run from somebody else: its report loads and runs nothing, or the run is refused."""

import base64
import json
import re

import nbformat
from hypothesis import strategies as st

from imgclf import ImgclfError
from imgclf.experiments import html_report
from imgclf.experiments.history import runs
from imgclf.images import decoding
from support.html_elements import Elements
from support.mutations import TEXT, TEXTS, damaged
from support.pictures import picture

HTML = (
    *("<script>x()</script>", "<img src=https://example.com onerror=x()>", "<svg/onload=x()>", "</title>"),
    *("<iframe srcdoc=x>", "</style><style>@import 'x'", "</pre>", "javascript:x()", "&lt;script>", "<!--", "-->"),
    *("{{ 7 * 7 }}", "{% include 'x' %}", "![a](https://example.com)", "[a](javascript:x())", "$$", "```", "<a href='"),
    *('" onload="x()', "<table><tr><td style='x'>", "     ", "\n", "\n\n", "# ", "|-|\n", "\x1b[31m", "CAREFUL", 'title="'),
)  # fmt: skip
WRITTEN = st.lists(st.sampled_from(HTML) | TEXTS, max_size=8).map("".join)
OF_A_PAGE = ("html", "head", "meta", "title", "style", "body", "main", "header", "h1", "figure", "img")
ATTRIBUTES = {
    "a": {"href"},
    "img": {"src", "width", "height", "alt"},
    "meta": {"charset", "http-equiv", "name", "content"},
    "html": {"lang"},
    "style": {"type"},
    **{tag: {"class", "role", "tabindex", "aria-label"} for tag in ("div", "p", "pre", "figure")},
    **{tag: {"colspan", "rowspan", "scope"} for tag in ("td", "th")},
}


def notebook(title: str, printed: str, source: str, markdown: str, html: str) -> bytes:
    """An executed 05 with each kind of cell and output that reports have."""
    texts = [nbformat.v4.new_output("stream", text=text) for text in (title, printed)]
    plot = base64.b64encode(decoding.jpeg(picture((200, 40, 40), seed=0))).decode()
    kinds = ({"text/html": html, "text/plain": "a"}, {"text/plain": printed}, {"image/jpeg": plot})
    shown = [nbformat.v4.new_output("display_data", data=data) for data in kinds]
    tags = {"tags": [html_report.TAG]}
    cells = [
        nbformat.v4.new_code_cell(source, outputs=texts[:1], metadata={"tags": [html_report.TITLE_TAG]}),
        nbformat.v4.new_markdown_cell(markdown, metadata=tags),
        nbformat.v4.new_code_cell(source, outputs=[texts[1], *shown], metadata=tags),
    ]
    return json.dumps(nbformat.v4.new_notebook(cells=cells)).encode()


def test_report_of_a_damaged_notebook(fuzz, data_dir):
    run = runs.start(runs.BY_HAND, "fruit", {})

    def is_safe(inputs: dict[str, bytes]) -> None:
        (run.folder / html_report.NOTEBOOK).write_bytes(inputs["content"])
        (run.folder / html_report.REPORT).unlink(missing_ok=True)
        try:
            page = Elements(html_report.write_of(run).read_text(encoding="utf-8"))
        except ImgclfError:
            return
        for tag, attributes in page.elements:
            assert tag in (*html_report.TAGS, *OF_A_PAGE)
            assert attributes.keys() <= ATTRIBUTES.get(tag, set()), (tag, attributes)
        assert all(each["src"].startswith("data:image/") for each in page.all("img"))
        assert all(re.match("https?://|mailto:", each.get("href", "https://")) for each in page.all("a"))

    whole = notebook("fruit: 94%", "label      images", 'grid(title="a")', "## Heading", "<p>a</p>")
    contents = st.builds(notebook, WRITTEN, WRITTEN, WRITTEN, WRITTEN, WRITTEN) | damaged([whole], TEXT)
    fuzz(contents.map(lambda content: {"content": content}), is_safe)
