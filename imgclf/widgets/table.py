"""A table whose rows are chosen by check boxes or radio buttons and sorted by the heads of its columns."""

from pathlib import Path

import anywidget
from traitlets import Bool, Dict, List, Unicode

HERE = Path(__file__).parent


class Table(anywidget.AnyWidget):
    """A table of texts. The browser sets `selected`, `sort` and `descending`; Python sorts the rows.

    Attributes
    ----------
    columns : the heads of the columns, which are also their names.
    numeric : those of them that are aligned to the right.
    rows : one dict for each row: `id`, and `texts`, one for each column. Texts are never read as HTML.
    selected : ids of the chosen rows, in the order of the clicks; rows that are not shown may be among them.
    sort, descending : the column by which the rows are sorted.
    single : whether one row is chosen at a time.
    empty : text shown if there are no rows.
    """

    _esm = HERE / "table.js"
    _css = HERE / "table.css"
    columns = List(Unicode()).tag(sync=True)
    numeric = List(Unicode()).tag(sync=True)
    rows = List(Dict()).tag(sync=True)
    selected = List(Unicode()).tag(sync=True)
    sort = Unicode().tag(sync=True)
    descending = Bool(False).tag(sync=True)
    single = Bool(False).tag(sync=True)
    empty = Unicode("no rows").tag(sync=True)

    def __repr__(self) -> str:
        return f"[table of {len(self.rows)} rows: run this cell to use it]"
