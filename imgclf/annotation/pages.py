"""Images on pages with a cursor, and images of which a person leaves some out."""

from collections.abc import Sequence

STEPS = {"ArrowLeft": -1, "ArrowRight": 1}
ROWS = {"ArrowUp": -1, "ArrowDown": 1}
PAGES = {"PageUp": -1, "PageDown": 1}
ENDS = ("Home", "End")


class Pages:
    """A sequence of images on pages of `rows` x `columns`, and a cursor.

    Attributes
    ----------
    order : positions of the images in `annotations.images`.
    current : index in `order` of the image at the cursor; its page is the current page. 0 if there is no
        image.
    """

    def __init__(self, *, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.order: list[int] = []
        self.current = 0

    @property
    def current_position(self) -> int | None:
        """Position of the image at the cursor; None if there is no image."""
        return self.order[self.current] if self.order else None

    @property
    def page_size(self) -> int:
        """Number of images per page."""
        return self.rows * self.columns

    @property
    def page(self) -> int:
        """Number of the current page, from 0."""
        return self.current // self.page_size

    @property
    def pages(self) -> int:
        """Number of pages, at least 1."""
        return max(1, -(-len(self.order) // self.page_size))

    def on_page(self, page: int) -> list[int]:
        """Return the positions of the images of a page; empty if the page does not exist."""
        return self.order[page * self.page_size : (page + 1) * self.page_size] if page >= 0 else []

    def resize(self, rows: int, columns: int) -> None:
        """Change the page size. The cursor stays on its image."""
        self.rows, self.columns = rows, columns

    def move_to(self, index: int) -> None:
        """Move the cursor to an index in `order`, or the nearest one."""
        self.current = max(0, min(index, len(self.order) - 1))

    def turn(self, pages: int) -> None:
        """Go forward by a number of pages (back, if negative), to the first image of that page."""
        self.move_to(max(0, min(self.page + pages, self.pages - 1)) * self.page_size)

    def navigate(self, key: str) -> None:
        """Move the cursor by an arrow key, Page Up, Page Down, Home or End."""
        if key in STEPS or key in ROWS:
            step = STEPS.get(key, 0) + ROWS.get(key, 0) * self.columns
            stays = key in ROWS and not 0 <= self.current + step < len(self.order)  # no row above or below
            self.move_to(self.current + (0 if stays else step))
        elif key in PAGES:
            self.turn(PAGES[key])
        elif key in ENDS:
            self.move_to(0 if key == "Home" else len(self.order))


class Picks(Pages):
    """Images shown together, from which a person takes some out before the others get a label.

    Attributes
    ----------
    left_out : positions of the images that were taken out, also of images shown earlier.
    """

    def __init__(self, *, rows: int, columns: int) -> None:
        super().__init__(rows=rows, columns=columns)
        self.left_out: set[int] = set()

    def show(self, positions: Sequence[int]) -> None:
        """Show other images; those that were taken out earlier stay out."""
        self.order, self.current = list(positions), 0

    @property
    def chosen(self) -> list[int]:
        """Positions of the images that were not taken out, on all pages."""
        return [position for position in self.order if position not in self.left_out]

    def toggle(self) -> None:
        """Take the image at the cursor out, or put it back."""
        self.left_out ^= set(self.order[self.current : self.current + 1])

    def click(self, tile: int) -> None:
        """Take the image of a tile of the current page out, or put it back."""
        index = self.page * self.page_size + tile
        if index < len(self.order):
            self.move_to(index)
            self.toggle()
