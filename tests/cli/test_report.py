"""`imgclf report`: the report of the newest run, or of another one, as a file and in the browser."""

import os
import subprocess
import sys

import nbformat
import pytest
from click.testing import CliRunner, Result

from imgclf import cli
from imgclf.experiments import html_report
from imgclf.experiments.history import runs


@pytest.fixture(autouse=True)
def _data(data_dir):
    """Runs go into a data folder of the test."""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["report", *map(str, arguments)])


def a_run(text: str = "") -> runs.Run:
    """A finished run whose report says this."""
    made = runs.start(runs.BY_HAND, "fruit", {})
    cells = [nbformat.v4.new_markdown_cell(text, metadata={"tags": [html_report.TAG]})]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), made.folder / html_report.NOTEBOOK)
    return runs.finish(made)


def test_it_writes_that_of_the_newest_run_and_prints_its_path():
    a_run()
    newest = a_run("the newest")
    runs.fail(runs.start(runs.BY_HAND, "fruit", {}), "stopped")
    result = call()
    assert result.stdout == f"{newest.folder / 'report.html'}\n", result.output
    assert "the newest" in (newest.folder / "report.html").read_text(encoding="utf-8")


def test_it_takes_an_id_and_a_file_that_it_overwrites_only_when_asked(tmp_path):
    chosen, file = a_run("the chosen"), tmp_path / "r.html"
    a_run()
    assert call(chosen.id[:8], "--output", file).stdout == f"{file}\n"
    assert "the chosen" in file.read_text(encoding="utf-8")
    again = call(chosen.id[:8], "--output", file)
    assert again.exit_code == 1 and f"{file}: exists already; name another file" in again.stderr
    assert call(chosen.id[:8], "--output", file, "--replace").exit_code == 0


def test_open_shows_it_in_the_browser(tmp_path):
    seen, made = tmp_path / "seen", a_run()
    subprocess.run(  # a process of its own, since Python looks for browsers once
        [sys.executable, "-c", "from imgclf.cli import main; main()", "report", "--open"],
        env={**os.environ, "BROWSER": f"sh -c 'echo $0 > {seen}' %s"},
        check=True,
    )
    assert seen.read_text() == f"{(made.folder / 'report.html').as_uri()}\n"


def test_without_a_run_it_says_what_to_do():
    result = call()
    assert (
        result.exit_code == 1 and "no run with an evaluation; imgclf run --from 05 makes one" in result.stderr
    )


def test_a_failed_run_has_no_report_and_the_reason_is_said():
    failed = runs.start(runs.BY_RUN, "fruit", {})
    (failed.folder / html_report.NOTEBOOK).write_text("{}")  # as papermill left it
    runs.fail(failed, "stopped")
    result = call(failed.id)
    assert result.exit_code == 1
    assert f"{failed.name}: has no report, since it failed (stopped); choose another run" in result.stderr


def test_an_unknown_run_is_named():
    result = call("abc")
    assert result.exit_code == 1 and "'abc': no such run in " in result.stderr
