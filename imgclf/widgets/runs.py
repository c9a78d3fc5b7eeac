"""The browser of the run history: a table of runs, runs side by side, and a run loaded again."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
from ipywidgets import HTML, Button, Dropdown, HBox, Layout, Text, Textarea, ToggleButton, VBox

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations
from imgclf.data import dataset, previous_split
from imgclf.data.dataset import Dataset
from imgclf.evaluation.metrics import Evaluation
from imgclf.experiments.history import comparing
from imgclf.experiments.history import runs as history
from imgclf.experiments.history.comparing import COLUMNS
from imgclf.experiments.history.run import ACCURACY, CLASS_AVERAGED
from imgclf.experiments.history.runs import Run
from imgclf.experiments.trials import as_text
from imgclf.widgets.keys import Keys
from imgclf.widgets.results import ResultsBrowser
from imgclf.widgets.side_by_side import SideBySide, frame, heading, text
from imgclf.widgets.table import Table
from imgclf.widgets.trials import ParallelCoordinates, RunScatter

ALL = ""  # in place of a data set
NUMERIC = (ACCURACY, CLASS_AVERAGED, comparing.SECONDS)
MOST_SIDE_BY_SIDE = 8
HIDDEN = ("when", "data set", "tags", "kind", "id")  # at first; a name begins with the time and the data set


class RunsBrowser(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The runs as a table, of which one or several are chosen by check boxes.

    One chosen run shows its parameters, its metrics, and what a person said of it; it can be loaded. Several
    are shown side by side. Everything shown is computed by `experiments.comparing`.

    Attributes
    ----------
    table : its `selected` are the ids of the chosen runs.
    evaluation, classifier_path : the recorded scores and the `classifier.onnx` of the run that was loaded;
        None before, and `classifier_path` also if the run has no classifier.
    """

    def __init__(self, runs: Sequence[Run] | None = None) -> None:
        """Show runs.

        Parameters
        ----------
        runs : that are listed; None for the whole history.
        """
        super().__init__()
        self._given = runs
        self._runs: list[Run] = []
        self.evaluation: Evaluation | None = None
        self.classifier_path: Path | None = None
        self.status, self.chosen, self.plots, self.loaded = HTML(), VBox(), VBox(), VBox()
        self.table = Table(sort="when", descending=True, numeric=list(NUMERIC), empty="no runs yet")
        for name in ("sort", "descending"):
            self.table.observe(lambda _: self._show_rows(), name)
        self.table.observe(lambda _: self._show_chosen(), "selected")
        parts = [self._toolbar(), self.table, self.status, self.chosen, self.loaded, self._scatter()]
        self.children = [*parts, Keys(captured=[])]
        self.add_class("imgclf-panel")
        self.refresh()

    def _toolbar(self) -> HBox:
        self.dataset_name = Dropdown(options=[("all", ALL)], description="Data set")
        self.dataset_name.observe(lambda _: self._show_rows(), "value")
        self.dataset_name.style.description_width = "auto"
        refresh = self._button("Refresh", self.refresh, "Read the history again")
        none = self._button("Choose none", lambda: self.table.set_trait("selected", []), "Clear the choice")
        return HBox([self.dataset_name, refresh, none, *self._columns()], layout=_wrapping())

    def _columns(self) -> list[ToggleButton | HBox]:
        """Return a button that shows one button for each column."""
        layout = Layout(width="auto", height="24px")
        self.columns = {
            name: ToggleButton(name not in HIDDEN, description=name, layout=layout) for name in COLUMNS
        }
        for button in self.columns.values():
            button.observe(lambda _: self._show_rows(), "value")
        choice = HBox([*self.columns.values()], layout=_wrapping(display="none"))
        show = ToggleButton(description="Columns", tooltip="Choose columns", layout=Layout(width="auto"))
        show.observe(
            lambda change: setattr(choice.layout, "display", "" if change["new"] else "none"), "value"
        )
        return [show, choice]

    def _scatter(self) -> VBox:
        self.parameter, self.metric = Dropdown(description="Parameter"), Dropdown(description="Metric")
        self.scatter = RunScatter(self._toggle)
        for field in (self.parameter, self.metric):
            field.observe(lambda _: self._show_scatter(), "value")
        return self.plots

    def _button(self, name: str, command: Callable[[], object], tip: str) -> Button:
        button = Button(description=name, tooltip=tip, layout=Layout(width="auto"))
        button.on_click(lambda _: self._execute(command))
        return button

    def _execute(self, command: Callable[[], object]) -> None:
        """Execute a command, and show its result or error."""
        try:
            if result := command():
                self._say(str(result))
        except ImgclfError as error:
            self._say(f"Not done: {error}")

    def _say(self, sentence: str) -> None:
        self.status.value = text(sentence).value if sentence else ""

    def refresh(self) -> None:
        """Read the history again, and show it; chosen runs that are still there stay chosen."""
        self._runs, damaged = history.listing() if self._given is None else (list(self._given), [])
        names = list(dict.fromkeys(run.dataset_name for run in self._runs))
        chosen = self.dataset_name.value
        self.dataset_name.options = [("all", ALL), *((name, name) for name in names)]
        self.dataset_name.value = chosen if chosen in names else ALL
        there = {run.id for run in self._runs}
        self.table.selected = [run_id for run_id in self.table.selected if run_id in there]
        self._show_rows()
        self._show_chosen()
        self._say("\n".join(f"left out: {path}: damaged; delete its folder" for path in damaged))

    @property
    def listed(self) -> list[Run]:
        """The runs of the chosen data set, in the order of the table."""
        runs = [run for run in self._runs if self.dataset_name.value in (ALL, run.dataset_name)]
        return comparing.ordered(runs, self.table.sort, descending=self.table.descending)

    @property
    def selected(self) -> list[Run]:
        """The chosen runs, in the order of the history."""
        return [run for run in self._runs if run.id in self.table.selected]

    def _show_rows(self) -> None:
        columns = [name for name, button in self.columns.items() if button.value]
        rows = [{"id": run.id, "texts": comparing.texts(run, columns)} for run in self.listed]
        with self.table.hold_sync():
            self.table.columns, self.table.rows = columns, rows
        self._show_plots()

    def _show_plots(self) -> None:
        names, metrics = comparing.varied(self.listed), comparing.metric_names(self.listed)
        for field, options in ((self.parameter, names), (self.metric, metrics)):
            if list(field.options) != options:
                chosen = field.value
                field.options = options
                field.value = chosen if chosen in options else next(iter(options), None)
        shown = [heading("A metric over a parameter"), HBox([self.parameter, self.metric]), self.scatter]
        self.plots.children = shown if names else []
        self._show_scatter()

    def _show_scatter(self) -> None:
        if self.parameter.value and self.metric.value:
            self.scatter.show(self.listed, self.parameter.value, self.metric.value, self.table.selected)

    def _toggle(self, run_id: str) -> None:
        others = [each for each in self.table.selected if each != run_id]
        self.table.selected = others if run_id in self.table.selected else [*others, run_id]

    def _show_chosen(self) -> None:
        self._say("")
        runs = self.selected
        if len(runs) > MOST_SIDE_BY_SIDE:
            note = text(f"{len(runs)} runs are chosen; up to {MOST_SIDE_BY_SIDE} are shown side by side")
            self.chosen.children = [note, *self._coordinates(runs)]
        elif len(runs) > 1:
            self.chosen.children = [SideBySide(comparing.oldest_first(runs)), *self._coordinates(runs)]
        else:
            self.chosen.children = [self._details(run) for run in runs]
        self._show_scatter()

    def _coordinates(self, runs: Sequence[Run]) -> list[HTML | ParallelCoordinates]:
        found = comparing.coordinates(runs)
        if len(found.names) < 3:  # of two, the table of parameters says all
            return []
        return [heading("Parameters and results"), ParallelCoordinates(found, what="runs")]

    def _details(self, run: Run) -> VBox:
        self.name = Text(run.name, description="Name", layout=Layout(width="420px"))
        self.note = Textarea(run.note, description="Note", layout=Layout(width="420px"))
        self.tags = Text(", ".join(run.tags), description="Tags", layout=Layout(width="420px"))
        save = self._button("Save", lambda: self._save(run), "Save name, note and tags")
        load = self._button(
            "Load", lambda: self._load(run), "Its classifier and its review widget, as recorded"
        )
        values = {name: as_text(value) for name, value in run.parameters.items()}
        tables = {
            "Parameters": pd.DataFrame.from_dict(values, orient="index"),
            "Metrics": comparing.oldest_first([run]).metrics(),
            "About": pd.DataFrame.from_dict(dict(run.about), orient="index"),
        }
        shown = [VBox([heading(name), frame(table, header=False)]) for name, table in tables.items()]
        about = f"id {run.id}, {run.kind}, began {run.started}, {comparing.texts(run, ['status'])[0]}"
        return VBox(
            [
                text(about),
                HBox([VBox([self.name, self.note, self.tags]), save, load], layout=Layout(grid_gap="10px")),
                HBox(shown, layout=Layout(grid_gap="20px", flex_flow="row wrap")),
            ]
        )

    def _save(self, run: Run) -> str:
        tags = [tag.strip() for tag in self.tags.value.split(",")]
        changed = history.change(run, name=self.name.value, note=self.note.value, tags=tags)
        if self._given is not None:
            self._given = [changed if each.id == run.id else each for each in self._given]
        self.refresh()
        return f"saved: {changed.name}"

    def _load(self, run: Run) -> str:
        """Set `evaluation` and `classifier_path`, and show the review widget."""
        self.evaluation, self.classifier_path, self.loaded.children = history.evaluation(run), None, []
        try:
            self.loaded.children = [heading(f"Loaded: {run.name}"), *_review(run, self.evaluation)]
        finally:
            self.classifier_path = history.classifier(run)
        return f"loaded {run.name}: its scores are in .evaluation, its classifier is {self.classifier_path}"

    def __repr__(self) -> str:
        return "[browser of the run history: run this cell to use it]"


def _review(run: Run, evaluation: Evaluation) -> list[HTML | ResultsBrowser]:
    """Return the browser of recorded scores, which relabels the present data set, below what it lacks."""
    name, note = run.dataset_name, ""
    try:
        found = _dataset(run)
    except ImgclfError as error:
        note = f"recorded scores only: {error}"
        found = Dataset(name, dataset.images_folder(name, str(run.parameters.get("images_dir", ""))), ())
    if not found.folder.is_dir():
        note = f"recorded scores only: {found.folder}: no such folder"
    annotations = Annotations(found, is_optional=True)
    browser = ResultsBrowser(evaluation, annotations, sides=previous_split.read(name))
    return [text(note), browser] if note else [browser]


def _dataset(run: Run) -> Dataset:
    """Return the present data set; the one that the run recorded, if there is none or it has another folder.

    Raises
    ------
    ImgclfError : there is none, or it is damaged, and the run has recorded none.
    """
    try:
        recorded = dataset.read(run.dataset_name, listed_in=run.folder)
    except ImgclfError:
        return dataset.read(run.dataset_name)
    with suppress(ImgclfError):
        if (present := dataset.read(run.dataset_name)).folder == recorded.folder:
            return present
    return recorded


def _wrapping(**layout: str) -> Layout:
    return Layout(flex_flow="row wrap", align_items="center", grid_gap="2px 10px", **layout)
