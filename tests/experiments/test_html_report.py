"""The report: what it shows of a notebook, and that it loads and runs nothing."""

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgclf import ImgclfError
from imgclf.experiments import html_report, notebooks, outputs, projects
from imgclf.experiments.history import run, runs
from support.html_elements import Elements

HOSTILE = """<script>x("1")</script><img onerror='x(2)'>"""
TITLE = "fruit: 94% of 108 test images labelled correctly (88% to 98%)"


def picture(width: int, height: int, *, is_photograph: bool = False) -> str:
    """A PNG as base64; a photograph is noise."""
    pixels = np.zeros((height, width, 3), np.uint8)
    if is_photograph:
        pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return base64.b64encode(file.getvalue()).decode()


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name=name, text=text)


def shown(**data: Any) -> nbformat.NotebookNode:
    """An output with these kinds, `image_png` for image/png."""
    return nbformat.v4.new_output(
        "display_data", data={name.replace("_", "/", 1): value for name, value in data.items()}
    )


def code(source: str, *of_it: nbformat.NotebookNode, tag: str = html_report.TAG) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, outputs=list(of_it), metadata={"tags": [tag] if tag else []})


def prose(source: str, *, tag: str = html_report.TAG) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": [tag] if tag else []})


def written(*cells: nbformat.NotebookNode, folder: Path, **metadata: Any) -> Elements:
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
    html_report.write(notebook, folder / "report.html")
    return Elements((folder / "report.html").read_text(encoding="utf-8"))


class TestWhatIsShown:
    def test_the_title_is_what_its_cell_prints_first(self, tmp_path):
        page = written(
            code("", stream(f"{TITLE}\nOn average\nCAREFUL: few\n"), tag=html_report.TITLE_TAG),
            folder=tmp_path,
        )
        assert page.text.count(TITLE) == 2 and len(page.all("h1")) == 1  # the second is that of the window
        assert [each["class"] for each in page.all("p")] == ["lead", "careful"]

    def test_only_tagged_cells_are_in_it_and_no_code(self, tmp_path):
        cells = (
            code("1 + secret", stream("shown")),
            code("2", stream("hidden"), tag=""),
            prose("also shown"),
            prose("also hidden", tag=""),
        )
        text = written(*cells, folder=tmp_path).text
        assert "shown" in text and "also shown" in text
        assert not [word for word in ("secret", "hidden") if word in text]

    def test_without_tags_as_in_0_1_0_all_cells_but_the_first_and_widgets_are_in_it(self, tmp_path):
        cells = (
            prose("# 05 Evaluate", tag=""),
            code('dataset_name: str = "demo"', tag="parameters"),
            code('dataset_name = "fruit"', tag="injected-parameters"),
            code("code", stream("printed"), tag=""),
            code("", shown(text_plain="[browser of 108 scored images: run this cell to use it]"), tag=""),
            code("", shown(**{f"{outputs.WIDGET}": {}, "text_plain": "Slider()"}), tag=""),
        )
        page = written(*cells, folder=tmp_path)
        assert page.text.count("Evaluation of fruit") == 2 and "printed" in page.text
        assert not [word for word in ("05 Evaluate", "code", "browser", "Slider") if word in page.text]

    def test_time_and_version_are_those_of_the_notebook(self, tmp_path):
        metadata = {"imgclf": {"ended": "2026-11-25T17:04:09", "version": "1.2.3"}}
        assert "2026-11-25 17:04, imgclf 1.2.3" in written(folder=tmp_path, **metadata).text

    def test_errors_warnings_and_other_kinds_of_output_are_left_out(self, tmp_path):
        failed = nbformat.v4.new_output("error", ename="ValueError", evalue="secret", traceback=["secret"])
        cells = code(
            "",
            failed,
            stream("secret", "stderr"),
            shown(**{"application_javascript": "secret", "image_svg+xml": "<svg>secret</svg>"}),
            shown(text_plain="", text_html=""),
        )
        page = written(cells, folder=tmp_path)
        assert "secret" not in page.text and not page.all("p") and not page.all("div")

    def test_printed_columns_keep_their_spaces_and_sentences_are_paragraphs(self, tmp_path):
        page = written(
            code("", stream("          images\ndotted        32\n")),
            code("", stream("one sentence\nanother one")),
            folder=tmp_path,
        )
        assert len(page.all("pre")) == 1 and "\n          images\ndotted        32\n" in page.text
        assert len(page.all("p")) == 2


class TestPictures:
    def test_a_picture_is_in_the_file_with_its_size_and_the_heading_as_alternative_text(self, tmp_path):
        (image,) = written(
            prose("## Which `labels` are confused?\n\nText"),
            code("plots.confusion(result)", shown(image_png=picture(40, 30), text_plain="<Figure>")),
            folder=tmp_path,
        ).all("img")
        assert image["src"].startswith("data:image/png;base64,")
        assert (image["width"], image["height"]) == ("40", "30")
        assert image["alt"] == "Which labels are confused?"

    def test_a_picture_with_a_title_has_it_as_alternative_text(self, tmp_path):
        source = 'plots.grid(tiles,\n           title="Most confident mistakes")'
        (image,) = written(
            prose("## Look"), code(source, shown(image_png=picture(9, 9))), folder=tmp_path
        ).all("img")
        assert image["alt"] == "Most confident mistakes"

    def test_photographs_are_compressed(self, tmp_path):
        large = picture(300, 300, is_photograph=True)
        (image,) = written(code("", shown(image_png=large)), folder=tmp_path).all("img")
        assert image["src"].startswith("data:image/webp;base64,") and len(image["src"]) < len(large) / 2

    def test_photographs_that_came_as_jpeg_are_compressed_too(self, tmp_path):
        Image.effect_noise((90, 90), 60).save(encoded := io.BytesIO(), "JPEG", quality=95)
        content = base64.b64encode(encoded.getvalue()).decode()
        (image,) = written(code("", shown(image_jpeg=content)), folder=tmp_path).all("img")
        assert image["src"].startswith("data:image/webp;base64,") and len(image["src"]) < len(content)

    @pytest.mark.parametrize(
        "content",
        [
            "no base64!",
            base64.b64encode(b"no picture").decode(),
            picture(600, 600, is_photograph=True)[:-400_000],
        ],
    )
    def test_a_damaged_picture_is_left_out(self, content, tmp_path):
        page = written(code("", shown(image_png=content), stream("shown")), folder=tmp_path)
        assert not page.all("img") and "shown" in page.text


class TestSafety:
    def test_a_hostile_label_stays_text_wherever_it_is(self, tmp_path):
        table = pd.DataFrame({HOSTILE: [HOSTILE]}, index=[HOSTILE])
        cells = (
            code("", stream(f"{HOSTILE}: 94%\n{HOSTILE}"), tag=html_report.TITLE_TAG),
            code("", shown(text_html=table._repr_html_(), text_plain=repr(table))),
            code(f'plots.grid(title="{HOSTILE}")', stream(HOSTILE), shown(text_plain=HOSTILE)),
            code("", stream(f"{HOSTILE}     columns")),
            code(f'title="{HOSTILE.replace(chr(34), "")}"', shown(image_png=picture(9, 9))),
        )
        page = written(*cells, folder=tmp_path)
        assert {tag for tag, _ in page.elements} == {
            *("html", "head", "meta", "title", "style", "body", "main", "header", "h1"),
            *("p", "div", "table", "thead", "tbody", "tr", "th", "td", "pre", "figure", "img"),
        }
        assert len(page.all("img")) == 1 and page.text.count(HOSTILE) == 9
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]

    @pytest.mark.parametrize(
        "source",
        [
            HOSTILE,
            "[a](javascript:alert(1)) [b](data:text/html,x) [c](06_deploy.ipynb)",
            "![picture](https://example.com/tracker.png) <img src='https://example.com/2.png'>",
            "<iframe src='https://example.com'></iframe><object data='x'></object><form action='x'></form>",
            "<p style='background: url(https://example.com)' onclick='x()'>text</p><svg onload='x()'></svg>",
            "<style>@import 'https://example.com'</style><link rel='stylesheet' href='https://example.com'>",
            "<base href='https://example.com'><meta http-equiv='refresh' content='0;https://example.com'>",
        ],
    )
    @pytest.mark.parametrize("as_cell", [prose, lambda source: code("", shown(text_html=source))])
    def test_nothing_in_a_notebook_loads_or_runs_anything(self, source, as_cell, tmp_path):
        without = written(folder=tmp_path)
        page = written(as_cell(source), folder=tmp_path)
        added = [tag for tag, _ in page.elements if tag not in ("a", "p", "div")]
        assert added == [tag for tag, _ in without.elements]
        assert {name for _, each in page.elements[len(without.elements) :] for name in each} <= {
            *("class", "role", "tabindex", "aria-label")
        }

    def test_the_page_forbids_scripts_and_requests_itself(self, tmp_path):
        policy = next(
            each["content"] for each in written(folder=tmp_path).all("meta") if "http-equiv" in each
        )
        assert policy.startswith("default-src 'none'; img-src data:;")

    def test_links_to_the_web_stay(self, tmp_path):
        (link,) = written(prose("[paper](https://arxiv.org/abs/1706.04599)"), folder=tmp_path).all("a")
        assert link == {"href": "https://arxiv.org/abs/1706.04599"}


class TestAccessibility:
    def test_language_character_set_and_viewport_are_set(self, tmp_path):
        page = written(folder=tmp_path)
        assert page.all("html") == [{"lang": "en"}]
        assert {"charset": "utf-8"} in page.all("meta")
        assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")

    def test_tables_have_header_cells_and_a_name_and_scroll_by_keyboard(self, tmp_path):
        table = pd.DataFrame({"images": [3]}, index=["dotted"])
        page = written(prose("## Labels"), code("", shown(text_html=table._repr_html_())), folder=tmp_path)
        assert len(page.all("th")) == 3 and "tbody tr th" not in page.text
        assert page.all("div") == [
            {"class": "table", "role": "region", "tabindex": "0", "aria-label": "Labels"},
            {},
        ]

    def test_headings_of_the_notebook_are_below_the_title(self, tmp_path):
        path = next(path for path in notebooks.paths() if path.name == html_report.NOTEBOOK)
        html_report.write(nbformat.read(path, as_version=4), tmp_path / "report.html")
        headings = [
            tag
            for tag, _ in Elements((tmp_path / "report.html").read_text(encoding="utf-8")).elements
            if tag in ("h1", "h2", "h3")
        ]
        assert headings[0] == "h1" and set(headings[1:]) == {"h2"}


def a_run(*cells: nbformat.NotebookNode) -> run.Run:
    made = runs.start(runs.BY_HAND, "fruit", {})
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), made.folder / html_report.NOTEBOOK)
    return runs.finish(made, metrics={run.ACCURACY: 0.94}, about={"imgclf version": "1.2.3"})


class TestOfARun:
    @pytest.fixture(autouse=True)
    def _data(self, data_dir):
        """Runs go into a data folder of the test."""

    def test_it_is_written_from_the_executed_notebook_into_the_folder_of_the_run(self):
        made = a_run(code("", stream("of the run")))
        path = html_report.write_of(made)
        page = Elements(path.read_text(encoding="utf-8"))
        assert path == made.folder / "report.html" and "of the run" in page.text
        assert f"{made.started[:16].replace('T', ' ')}, imgclf 1.2.3" in page.text

    def test_a_notebook_of_a_project_that_papermill_executed_has_no_version_of_its_own(self):
        made = a_run(code("", stream("of the run")))
        path = made.folder / html_report.NOTEBOOK
        executed = nbformat.read(path, as_version=4)
        executed.metadata["imgclf"] = {"version": "1.0.0", "sources": "0" * 64}
        nbformat.write(executed, path)
        page = Elements(html_report.write_of(made).read_text(encoding="utf-8"))
        assert f"{made.started[:16].replace('T', ' ')}, imgclf 1.2.3" in page.text

    def test_where_05_did_not_run_again_the_report_of_the_run_is_taken(self, tmp_path):
        made = a_run()
        (made.folder / html_report.NOTEBOOK).unlink()
        (made.folder / html_report.REPORT).write_text("of an earlier run")
        assert html_report.write_of(made, tmp_path / "r.html").read_text() == "of an earlier run"

    def test_a_run_without_an_evaluation_is_named(self):
        made = a_run()
        (made.folder / html_report.NOTEBOOK).unlink()
        with pytest.raises(
            ImgclfError, match=r"fruit.*: has no executed 05_evaluate.ipynb; choose another run"
        ):
            html_report.write_of(made)

    def test_a_damaged_notebook_is_named(self):
        made = a_run()
        (made.folder / html_report.NOTEBOOK).write_text("{")
        with pytest.raises(ImgclfError, match=r"05_evaluate.ipynb: damaged; choose another run"):
            html_report.write_of(made)

    def test_in_a_project_whose_notebooks_have_metadata_of_their_own_it_is_written(self):
        made = a_run(code("", stream("of the run")))
        source = made.folder / html_report.NOTEBOOK
        notebook = nbformat.read(source, as_version=4)
        notebook.metadata[projects.METADATA] = {"version": "1", "sources": "0" * 64}
        nbformat.write(notebook, source)
        assert made.started[:10] in html_report.write_of(made).read_text(encoding="utf-8")

    def test_a_link_in_place_of_a_report_is_not_followed(self, tmp_path):
        made = a_run()
        (made.folder / html_report.NOTEBOOK).unlink()
        (tmp_path / "secret").write_text("secret")
        (made.folder / html_report.REPORT).symlink_to(tmp_path / "secret")
        with pytest.raises(ImgclfError, match="has no executed"):
            html_report.write_of(made, tmp_path / "mail.html")

    def test_an_attachment_that_is_missing_makes_the_notebook_a_damaged_one(self):
        with pytest.raises(ImgclfError, match="damaged"):
            html_report.write_of(a_run(prose("![i](attachment:x)")))


def test_a_template_in_the_working_directory_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "report.html.j2").write_text("of somebody else")
    (tmp_path / "report.html.j2").write_text("of somebody else")
    monkeypatch.chdir(tmp_path)
    assert "ours" in written(prose("ours"), folder=tmp_path).text
