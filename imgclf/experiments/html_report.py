"""The report of an evaluation: one HTML file to mail or print, made from the executed notebook.

It has the cells that are tagged "report", without code; the cell tagged "report-title" prints its title and
first lines. The file loads nothing and runs no script. Labels and file names are untrusted: what
is text stays text, and HTML is sanitized.
"""

import base64
import io
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf import ImgclfError, files
from imgclf.experiments import outputs
from imgclf.experiments.history import runs
from imgclf.experiments.history.run import FINISHED, Run

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOK, REPORT = "05_evaluate.ipynb", "report.html"  # in the folder of a run
TEMPLATE = Path(__file__).with_name("report")
TAG, TITLE_TAG = "report", "report-title"
KINDS = ("image/png", "image/jpeg", "text/html", "text/plain")  # of an output the first that it has is shown
PLACEHOLDER = "run this cell to use it]"  # what a widget leaves where its view is missing
LARGE_BYTES, QUALITY = 100_000, 85  # larger PNG files hold photographs, as JPEG does: a tenth as WebP
TAGS = (
    "a abbr b blockquote br caption code dd div dl dt em h2 h3 h4 h5 h6 hr i li ol p pre s span strong sub "
    "sup table tbody td tfoot th thead tr ul"
)


def newest() -> Run:
    """Return the newest run with an evaluation.

    Raises
    ------
    ImgclfError : there is none.
    """
    for run in runs.all_runs():
        if run.status == FINISHED and any((run.folder / name).exists() for name in (NOTEBOOK, REPORT)):
            return run
    raise ImgclfError(f"{runs.root()}: no run with an evaluation; imgclf run --from 05 makes one")


def write_of(run: Run, path: Path | None = None) -> Path:
    """Write the report of a run from its executed notebook; return its path.

    Parameters
    ----------
    path : of the report; by default in the folder of the run.

    Raises
    ------
    ImgclfError : the run has not finished, or has no executed 05_evaluate and no report, or the file is
        damaged.
    """
    from nbconvert.filters.markdown_mistune import InvalidNotebook

    from imgclf.experiments.notebook_format import nbformat

    if run.status != FINISHED:
        raise ImgclfError(f"{run.name}: has no report{runs.why_lacking(run)}; choose another run")
    path, source = path or run.folder / REPORT, run.folder / NOTEBOOK
    if not source.exists() and (run.folder / REPORT).is_file() and not (run.folder / REPORT).is_symlink():
        # 05 was up to date, and did not run again.
        if path != run.folder / REPORT:
            files.write_text(path, files.read_text(run.folder / REPORT))
        return path
    if not source.exists():
        raise ImgclfError(f"{run.name}: has no executed {NOTEBOOK}; choose another run")
    try:
        notebook = nbformat.read(source, as_version=4)
        nbformat.validate(notebook)
        version = {"version": run.about["imgclf version"]} if "imgclf version" in run.about else {}
        by_papermill = notebook.metadata.get("papermill", {}).get("end_time")
        if "ended" not in notebook.metadata.get(outputs.METADATA, {}):  # papermill executed it
            notebook.metadata[outputs.METADATA] = {"ended": by_papermill or run.started, **version}
        write(notebook, path)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        nbformat.ValidationError,
        InvalidNotebook,
    ) as error:
        raise ImgclfError(f"{source}: damaged; choose another run") from error
    return path


def write(notebook: "NotebookNode", path: Path) -> None:
    """Write the report of an executed notebook.

    Parameters
    ----------
    notebook : 05_evaluate with its outputs. One of version 0.1.0 has no tags: then all cells are taken but
        the first, the title of the notebook.
    """
    from nbconvert.exporters import HTMLExporter

    title, lead = _title(notebook)
    exporter = HTMLExporter(
        template_file=str(TEMPLATE / "report.html.j2"),  # a name alone is looked for in the working directory
        extra_template_paths=[str(TEMPLATE)],
        extra_template_basedirs=[],  # else a template in the working directory comes first, and runs code
        exclude_anchor_links=True,
        filters={"sanitized": _sanitized, "is_columns": _is_columns},
    )
    about = {"title": title, "lead": lead, "made": _made(notebook), "cells": list(_cells(notebook))}
    html, _ = exporter.from_notebook_node(notebook, resources={"report": about})
    files.write_text(path, html)


def _tags(cell: "NotebookNode") -> list[str]:
    return cell.metadata.get("tags", [])


def _title(notebook: "NotebookNode") -> tuple[str, list[str]]:
    """Return the title and the lines below it."""
    for cell in notebook.cells:
        if TITLE_TAG in _tags(cell):
            text = "".join(output.get("text", "") for output in cell.outputs).strip()
            if text:
                title, *lead = text.splitlines()
                return title, lead
    sources = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    names = re.findall('^dataset_name(?:: str)? = "(.*?)"', sources, re.MULTILINE)  # papermill adds its own
    return f"Evaluation of {names[-1]}" if names else "Evaluation", []


def _made(notebook: "NotebookNode") -> str:
    """Return when the notebook ran, and the version that ran it; empty if it does not say."""
    about = notebook.metadata.get(outputs.METADATA, {})
    if "ended" not in about:
        return ""
    ended = f"{datetime.fromisoformat(about['ended']).astimezone():%Y-%m-%d %H:%M}"
    return f"{ended}, imgclf {about['version']}" if "version" in about else ended


def _cells(notebook: "NotebookNode") -> "Iterator[dict[str, Any]]":
    """Yield what the report shows: texts in Markdown, and outputs with their picture or table, one by one."""
    is_tagged = any(TAG in _tags(cell) for cell in notebook.cells)
    heading = ""
    for cell in notebook.cells if is_tagged else notebook.cells[1:]:
        is_markdown = cell.cell_type == "markdown"
        if is_markdown and (headings := re.findall("^#+ (.*)", cell.source, re.MULTILINE)):
            heading = re.sub("[*_`]", "", headings[-1])
        if is_tagged and TAG not in _tags(cell):
            continue
        if is_markdown:
            yield {"kind": "markdown", "content": cell.source}
        for output in cell.get("outputs", []):
            titled = re.search('title="([^"]+)"', cell.source)
            if shown := _shown(output):
                yield {**shown, "caption": titled[1] if titled else heading}


def _shown(output: "NotebookNode") -> dict[str, Any]:
    """Return what the report shows of an output; empty if nothing."""
    if output.output_type == "stream":
        return {"kind": "text/plain", "content": output.text.strip("\n")} if output.name == "stdout" else {}
    data = output.get("data", {})
    kind = next((kind for kind in KINDS if data.get(kind)), "")
    if not kind or outputs.WIDGET in data or data.get("text/plain", "").endswith(PLACEHOLDER):
        return {}
    return _picture(data[kind]) if kind.startswith("image/") else {"kind": kind, "content": data[kind]}


def _picture(content: str) -> dict[str, Any]:
    """Return a picture as the attributes of its element; empty if it is damaged."""
    from PIL import Image

    try:
        encoded = base64.b64decode(content)
        with Image.open(io.BytesIO(encoded), formats=["PNG", "JPEG"]) as image:
            kind, (width, height) = image.get_format_mimetype(), image.size
            if kind == "image/jpeg" or len(encoded) > LARGE_BYTES:
                image.convert("RGB").save(smaller := io.BytesIO(), "WEBP", quality=QUALITY)
                kind, encoded = "image/webp", smaller.getvalue()
    except (OSError, ValueError, Image.DecompressionBombError):
        return {}
    source = f"data:{kind};base64,{base64.b64encode(encoded).decode()}"
    return {"kind": "image", "source": source, "width": width, "height": height}


def _is_columns(text: str) -> bool:
    """Whether a text has columns, as a printed table; other texts are prose."""
    return bool(re.search(r"\S {3,}\S", text))


def _sanitized(html: str) -> str:
    """Return HTML with nothing that loads, runs or styles anything; other elements become text."""
    from nbconvert.preprocessors.sanitize import SanitizeHTML

    cells = ["colspan", "rowspan", "scope"]
    sanitizer = SanitizeHTML(
        tags=TAGS.split(), attributes={"a": _is_link, "td": cells, "th": cells}, styles=[]
    )
    return sanitizer.sanitize_html_tags(re.sub(r"<style scoped>.*?</style>", "", html, flags=re.DOTALL))


def _is_link(element: str, name: str, value: str) -> bool:
    """Whether an attribute is an address that still holds where the report is: no other notebook."""
    return name == "href" and value.startswith(("https://", "http://", "mailto:"))
