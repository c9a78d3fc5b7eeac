"""What the annotator and the results browser have in common: keys, label buttons, and a line that says what became of each command."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from ipywidgets import HTML, Button, Layout, VBox, Widget

from imgclf import ImgclfError, plots
from imgclf.annotation.annotations import Annotations, consequences
from imgclf.annotation.gallery import DIGITS
from imgclf.data.dataset import UNLABELLED, Image
from imgclf.data.split import PreviousSplit
from imgclf.widgets.keys import Keys

WAIT_SECONDS = 0.06  # for pictures, at most; those that take longer come a little later


class Panel(VBox):
    """A box that a person works in, over `annotations`. Who inherits from it draws in `refresh` what the plain objects hold.

    Attributes
    ----------
    keyboard : sends the keys that are pressed in the box.
    status : what became of the latest command. next_steps : what follows from all changes, told in a pause.
    """

    def __init__(
        self,
        annotations: Annotations,
        sides: PreviousSplit,
        press: Callable[[str, bool], str],
        wanted: Sequence[str],
    ) -> None:
        """Listen to the keys `wanted`; `press(key, shift)` does what they stand for, and gives a sentence about it."""
        super().__init__()
        self.annotations, self.sides = annotations, sides
        self.status, self.next_steps = HTML(), HTML()
        self.keyboard = Keys(wanted=list(wanted))
        self.keyboard.on_key(lambda key, shift, ctrl: self._attempt(lambda: press(key, shift)))
        self.keyboard.on_idle(self._follow)
        self._is_busy = False
        self._buttons: dict[str, Button] = {}

    def _open(self, parts: Sequence[Widget], keys: Sequence[tuple[str, str]]) -> None:
        """Show the parts, and below them the line and the keys with their meanings."""
        self.children = [*parts, self.status, self.next_steps, _keys_shown(keys), self.keyboard]
        for widget, name in ((self, "panel"), (self.status, "status"), (self.next_steps, "next-steps")):
            widget.add_class(f"imgclf-{name}")
        self.annotations.observers.append(lambda positions: None if self._is_busy else self.refresh())

    def refresh(self) -> None:
        """Show everything as it is now."""
        raise NotImplementedError

    def _attempt(self, work: Callable[[], Any]) -> None:
        """Do something for the person, and show what became of it."""
        try:
            with self._busy():
                sentence, is_refused = work(), False
        except ImgclfError as error:
            sentence, is_refused = error, True
        if sentence:
            self._say(str(sentence), is_refused=is_refused)
        self.refresh()

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """What is set meanwhile, nobody chose; what changes meanwhile is shown afterwards."""
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False

    def _say(self, sentence: str, *, is_refused: bool = False) -> None:
        self.status.value = f"<b>Not done:</b> {escape(sentence)}" if is_refused else escape(sentence)

    def _follow(self) -> None:
        """In a pause: take in what other windows did, and tell what follows from all changes."""
        try:
            self.annotations.follow()
            self.next_steps.value = escape(consequences(self.annotations, self.sides))
        except ImgclfError as error:
            self._say(str(error), is_refused=True)
        self.refresh()

    def _on_choice(self, field: Widget, choose: Callable[[Any], Any]) -> None:
        """Have `choose(value)` done when the person, and not `refresh`, sets a field."""
        field.style.description_width = "auto"
        field.observe(lambda change: self._is_busy or self._attempt(lambda: choose(change["new"])), "value")

    def _button(self, text: str, command: Callable[[], Any], tip: str = "", **layout: str) -> Button:
        """A button that does a command."""
        button = Button(
            description=text,
            tooltip=tip or text,
            layout=Layout(**{"width": "auto", "flex": "0 0 auto", **layout}),
        )
        button.on_click(lambda _: self._attempt(command))
        return button

    def _label_buttons(
        self, relabel: Callable[[str], Any], text: Callable[[str], str], colours: Sequence[str]
    ) -> list[Button]:
        """A button for each label, with its key, and its colour by its position in `colours`; `text(label)` stands on it."""
        labels = [*self.annotations.labels, UNLABELLED]
        for number, label in enumerate(labels):
            if label not in self._buttons:
                self._buttons[label] = self._button(label, lambda label=label: relabel(label))
                self._buttons[label].add_class("imgclf-label")
            key = "U" if label == UNLABELLED else DIGITS[number : number + 1]
            self._buttons[label].description = f"{key} {text(label)}".strip()
            colour = plots.colour(colours, label) if label in colours else "transparent"
            self._buttons[label].layout.border_left = f"6px solid {colour}"
        return [self._buttons[label] for label in labels]


def key(image: Image) -> str:
    """What the picture of an image is known by: its content, which stays when the file moves."""
    return image.sha256 or image.path


def _keys_shown(keys: Sequence[tuple[str, str]]) -> HTML:
    shown = " ".join(f"<span><kbd>{escape(name)}</kbd> {escape(meaning)}</span>" for name, meaning in keys)
    return HTML(f"<div class='imgclf-keys'>{shown}</div>")
