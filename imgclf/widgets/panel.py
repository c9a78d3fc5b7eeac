"""The base class of the widgets that change labels: keyboard, label buttons, and a status line."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from typing import Any

import ipywidgets
from ipywidgets import HTML, Box, Button, Layout, VBox, Widget

from imgclf import ImgclfError, plots
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.consequences import consequences
from imgclf.annotation.gallery import DIGITS
from imgclf.data import previous_split
from imgclf.data.dataset import Image
from imgclf.data.labels import NO_LABELS, NONE, UNLABELLED
from imgclf.data.previous_split import PreviousSplit
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets.keys import Keys
from imgclf.widgets.train_again import TrainAgain

WAIT_SECONDS = 0.06  # for pictures, at most; slower ones appear later
WAIT_SECONDS_AT_START = 2.0  # for the first ones: the browser cannot ask for them until all cells have run
MOST_AT_ONCE = 5_000  # images whose new split a pause may wait for; of more it is computed in a thread
ZOOM_SIDE, ZOOM_SECONDS = 1600, 1.0  # of the enlarged picture, pixels; wait for it


class Panel(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Base class of the widgets that change labels.

    A subclass draws the state of its plain objects in `refresh`, and returns the images around the current
    one in `near_images`. F enlarges the current image, which then takes all commands; F or Escape ends that.

    Attributes
    ----------
    keyboard : sends the key presses in the panel.
    status : the result of the latest command.
    next_steps : the consequences of all changes; updated when the user pauses, of many images a little later.
    train_again : the button that carries them out.
    legend : the keys and their meanings.
    zoom : the enlarged picture.
    computing : the thread that computes the consequences for many images; None before the first time.
    """

    trains_again = True  # whether it has the button

    def __init__(
        self,
        annotations: Annotations,
        sides: PreviousSplit,
        press: Callable[[str, bool], str],
        captured: Sequence[str],
    ) -> None:
        """Create an empty panel.

        Parameters
        ----------
        sides : of the last split, to find the images that would move between training and test set.
        press : called with key and shift. Executes the command of a key, and returns a message.
        captured : the keys to capture.
        """
        super().__init__()
        self.annotations, self.sides = annotations, sides
        self.status, self.next_steps, self.legend = HTML(), HTML(), HTML()
        self.train_again = TrainAgain(annotations.dataset, on_end=self._on_trained)
        self.keyboard = Keys(captured=list(captured))
        self.keyboard.on_key(lambda key, shift, ctrl: self._execute(lambda: self._press(key, shift)))
        self.keyboard.on_idle(self._sync)
        self._press_in_view = press
        self.zoom = ipywidgets.Image(format="jpeg", layout=Layout(display="none"))
        self.zoom.add_class("imgclf-zoom")
        self._zoom_pictures = Thumbnails(annotations.dataset.folder, ZOOM_SIDE, most=8)
        self._ignores_callbacks = False
        self.computing: threading.Thread | None = None
        self._shown_change = -1  # the latest one whose consequences are shown, or being computed
        self._buttons: dict[str, Button] = {}

    def _build(self, parts: Sequence[Widget], keys: Sequence[tuple[str, str]]) -> None:
        """Show the parts, and below them the status, the button Train again and the legend of the keys."""
        self.legend.value = key_legend(keys)
        trains = [self.next_steps, self.train_again] if self.trains_again else []
        self.children = [*parts, self.status, *trains, self.legend, self.keyboard]
        for widget, name in ((self, "panel"), (self.status, "status"), (self.next_steps, "next-steps")):
            widget.add_class(f"imgclf-{name}")
        self.annotations.observers.append(self._on_change)

    def refresh(self) -> None:
        """Show the current state."""
        raise NotImplementedError

    def near_images(self) -> list[Image]:
        """Return the current image and those that will probably be next; empty if there is none."""
        raise NotImplementedError

    def _zoomable(self, box: Box) -> Box:
        """Return a box that the enlarged picture covers."""
        box.add_class("imgclf-zoomable")
        box.children = [*box.children, self.zoom]
        return box

    def _press(self, key: str, shift: bool) -> str:
        is_zoomed = self.zoom.layout.display != "none"
        if key == "f" or (key == "Escape" and is_zoomed):
            self.zoom.layout.display = "none" if is_zoomed else "block"
            return ""
        if key == "Enter" and is_zoomed:  # the page is not in view
            key = " "
        return self._press_in_view(key, shift)

    def _refresh_zoom(self) -> None:
        if self.zoom.layout.display == "none":
            return
        pairs = [(picture_key(image), image.path) for image in self.near_images()]
        self._zoom_pictures.prepare(pairs)
        found = self._zoom_pictures.ready(pairs[:1], seconds=ZOOM_SECONDS)
        self.zoom.value = next(iter(found.values()), b"")

    def _on_change(self, positions: tuple[int, ...]) -> None:
        if not self._ignores_callbacks:
            self.refresh()

    def _execute(self, command: Callable[[], object]) -> bool:
        """Execute a command, show its result or error, and refresh; False after an error."""
        is_done = True
        try:
            with self._ignore_callbacks():
                result = command()
        except ImgclfError as error:
            self._show_error(error)
            is_done = False
        else:
            if result:
                self.status.value = escape(str(result))
        self.refresh()
        return is_done

    @contextmanager
    def _ignore_callbacks(self) -> Iterator[None]:
        """Ignore callbacks while code changes fields or annotations; the caller refreshes afterwards."""
        self._ignores_callbacks = True
        try:
            yield
        finally:
            self._ignores_callbacks = False

    def _show_error(self, error: ImgclfError) -> None:
        self.status.value = f"<b>Not done:</b> {escape(str(error))}"

    def _sync(self) -> None:
        """Apply the changes of other windows, and show the consequences of all changes."""
        try:
            self.annotations.sync()
            if self.trains_again:
                self._follow_consequences()
        except ImgclfError as error:
            self._show_error(error)
        self.refresh()

    def _follow_consequences(self) -> None:
        """Show the consequences of all changes; of many images in a thread, and once for each change."""
        if len(self.annotations.images) <= MOST_AT_ONCE:
            self._show_consequences()
        elif self._shown_change != self.annotations.journal.last_change and not self._is_computing:
            self._shown_change = self.annotations.journal.last_change
            self.computing = threading.Thread(
                target=self._show_consequences, name="imgclf-split", daemon=True
            )
            self.computing.start()

    @property
    def _is_computing(self) -> bool:
        return self.computing is not None and self.computing.is_alive()

    def _show_consequences(self) -> None:
        try:
            self.next_steps.value = escape(consequences(self.annotations, self.sides))
        except ImgclfError as error:
            self._show_error(error)

    def _on_trained(self) -> None:
        """Take the new split as the last one; what is said about the one before is past."""
        self.sides = previous_split.read(self.annotations.dataset.name)
        self.next_steps.value = ""
        self._shown_change = -1

    def _on_user_choice(self, field: Widget, choose: Callable[[Any], object]) -> None:
        """Call `choose(value)` when the user, and not `refresh`, sets a field."""

        def on_value(change: dict[str, Any]) -> None:
            if not self._ignores_callbacks:
                self._execute(lambda: choose(change["new"]))

        field.style.description_width = "auto"
        field.observe(on_value, "value")

    def _button(self, text: str, command: Callable[[], object], tip: str = "", **layout: str) -> Button:
        """Return a button that executes a command."""
        button = Button(
            description=text,
            tooltip=tip or text,
            layout=Layout(**{"width": "auto", "flex": "0 0 auto", **layout}),
        )
        button.on_click(lambda _: self._execute(command))
        return button

    def _label_buttons(
        self, relabel: Callable[[str], object], text: Callable[[str], str], coloured: Sequence[str]
    ) -> list[Button]:
        """Return a button for each label, with its key and `text(label)`.

        Parameters
        ----------
        coloured : labels that get a colour, by their position.
        """
        labels = [*self.annotations.labels, *NO_LABELS]
        for number, label in enumerate(labels):
            if label not in self._buttons:
                self._buttons[label] = self._button(label, partial(relabel, label))
                self._buttons[label].add_class("imgclf-label")
            key = {UNLABELLED: "U", NONE: "N"}.get(label, DIGITS[number : number + 1])
            self._buttons[label].description = f"{key} {text(label)}".strip()
            colour = plots.colour(coloured, label) if label in coloured else "transparent"
            self._buttons[label].layout.border_left = f"6px solid {colour}"
        return [self._buttons[label] for label in labels]


def picture_key(image: Image) -> str:
    """Return the key of an image's picture: the hash of its content, which stays when the file moves."""
    return image.sha256 or image.path


def key_legend(keys: Sequence[tuple[str, str]]) -> str:
    """Return the keys and their meanings, as HTML."""
    spans = " ".join(f"<span><kbd>{escape(name)}</kbd> {escape(meaning)}</span>" for name, meaning in keys)
    return f"<div class='imgclf-keys'>{spans}</div>"
