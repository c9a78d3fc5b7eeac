"""The notebooks run in JupyterLab without errors and draw their charts."""

import pytest

CHARTS = ["predicted label", "probability"]


def test_01_runs_in_lab_and_writes_the_split(lab, data_dir):
    (split := data_dir / "proc" / "colours" / "split.tsv").unlink()
    lab.open("01_prepare_data")
    lab.run_all()
    assert (lab.errors(), lab.stderr(), lab.javascript_errors) == ([], "", [])
    assert split.exists()
    lab.expect(lab.page.locator(".jp-OutputArea img").first).to_be_visible()


def test_05_runs_in_lab_draws_its_charts_and_writes_the_report_of_what_it_shows(lab, data_dir):
    (report := data_dir / "proc" / "colours" / "report.html").unlink()
    lab.open("05_evaluate")
    lab.run_all()
    assert (lab.errors(), lab.stderr(), lab.javascript_errors) == ([], "", [])
    html = report.read_text(encoding="utf-8")
    assert html.count("<h1>colours: ") == 1 and html.count("<img ") == 8 and "blue" in html
    assert "leopard" not in html  # of the demo set, in the outputs of the file that JupyterLab opened
    for title in CHARTS:
        lab.expect(lab.page.locator(".bqplot svg").filter(has_text=title)).to_be_visible()


def test_07_runs_a_trial_in_lab_and_draws_its_line(lab, data_dir):
    lab.open("07_compare_runs", grid="input_size: 64")
    lab.run_all(seconds=400)  # four notebooks run in it
    assert (lab.errors(), lab.stderr(), lab.javascript_errors) == ([], "", [])
    assert [path.parent.name for path in data_dir.glob("proc/*/trial.json")] == ["colours@input_size=64"]
    lab.expect(
        lab.page.locator(".bqplot").filter(has_text="held-out accuracy").locator("path.line")
    ).to_have_count(1)


def test_errors_of_failed_cells_are_reported(lab):
    lab.open("01_prepare_data", dataset_name="nothing")
    lab.run_all()
    assert lab.errors() and all("ImgclfError: " in error and "nothing" in error for error in lab.errors())


def test_an_unknown_parameter_of_a_notebook_is_refused(lab):
    with pytest.raises(AssertionError, match="05_evaluate has no parameter epochs"):
        lab.open("05_evaluate", epochs=1)
