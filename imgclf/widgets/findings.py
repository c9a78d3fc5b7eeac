"""The findings of the quality checks as a table; the annotator shows the images of the chosen one."""

from collections.abc import Sequence

from ipywidgets import VBox

from imgclf.annotation.annotations import Annotations
from imgclf.annotation.findings import Finding
from imgclf.data.previous_split import PreviousSplit
from imgclf.widgets.annotator import Annotator
from imgclf.widgets.keys import Keys
from imgclf.widgets.table import Table

KIND, FINDING, IMAGES, OPEN = "kind", "finding", "images", "not reviewed"  # columns


class FindingsBrowser(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A table of findings, and below it the annotator with the images of the chosen one.

    Attributes
    ----------
    table : its `selected` has the number of the chosen finding.
    annotator : its filter "finding" has the images of the chosen finding.
    """

    def __init__(
        self,
        findings: Sequence[Finding],
        annotations: Annotations,
        *,
        sides: PreviousSplit = PreviousSplit({}),
    ) -> None:
        """Show findings; the first one is chosen.

        Parameters
        ----------
        findings : of the data set of `annotations`, in the order of the table.
        sides : of the last split, to find the images that would move between training and test set.
        """
        super().__init__()
        self.findings, self.annotations = list(findings), annotations
        now = {image.path: i for i, image in enumerate(annotations.images)}
        as_scanned = {image.path: i for i, image in enumerate(annotations.dataset.files)}
        position = {**as_scanned, **now}
        self._positions = [[position[path] for path in each.images if path in position] for each in findings]
        self.annotator = Annotator(annotations, sides=sides)
        self.table = Table(
            columns=[KIND, FINDING, IMAGES, OPEN], numeric=[IMAGES, OPEN], single=True, empty="no findings"
        )
        self.table.add_class("imgclf-findings")
        for name in ("sort", "descending"):
            self.table.observe(lambda _: self._show_rows(), name)
        self.table.observe(lambda _: self._show_images(), "selected")
        annotations.observers.append(lambda _: self._show_rows())
        self.children = [self.table, self.annotator, Keys(captured=[])]
        self.add_class("imgclf-panel")
        self._show_rows()
        self.table.selected = [row["id"] for row in self.table.rows[:1]]

    def _show_rows(self) -> None:
        rows = [(number, self._values(number)) for number in range(len(self.findings))]
        if self.table.sort:
            rows.sort(key=lambda row: row[1][self.table.sort], reverse=self.table.descending)
        self.table.rows = [
            {"id": str(number), "texts": [str(values[name]) for name in self.table.columns]}
            for number, values in rows
        ]

    def _values(self, number: int) -> dict[str, str | int]:
        """Return the values of a finding by column."""
        finding = self.findings[number]
        left = sum(not self.annotations.is_reviewed(i) for i in self._positions[number])
        return {KIND: finding.kind, FINDING: finding.text, IMAGES: len(finding.images), OPEN: left}

    def _show_images(self) -> None:
        """Open the images of the chosen finding in the annotator."""
        for chosen in self.table.selected:
            self.annotator.gallery.show_finding(self._positions[int(chosen)])
            self.annotator.refresh()

    def __repr__(self) -> str:
        return f"[browser of {len(self.findings)} findings: run this cell to use it]"
