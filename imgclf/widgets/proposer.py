"""Labelling with proposals: a label is proposed for each image, and a person accepts or corrects it."""

import threading
from collections.abc import Callable
from functools import partial
from html import escape

import ipywidgets
from ipywidgets import HTML, Dropdown, GridBox, HBox, Layout, ToggleButtons, VBox

from imgclf import ImgclfError, plots
from imgclf.annotation import pages
from imgclf.annotation.annotations import ChangeResult
from imgclf.annotation.gallery import DIGITS, label_of_key
from imgclf.annotation.pages import Picks
from imgclf.annotation.proposals import KEYS, Proposals
from imgclf.data.dataset import Image
from imgclf.data.labels import NONE, UNLABELLED, in_words
from imgclf.data.previous_split import PreviousSplit
from imgclf.images.thumbnails import Thumbnails
from imgclf.widgets.accuracy_curve import AccuracyCurve
from imgclf.widgets.label_box import LabelBox
from imgclf.widgets.panel import WAIT_SECONDS, WAIT_SECONDS_AT_START, Panel, key_legend, picture_key
from imgclf.widgets.picks import PickSheet
from imgclf.widgets.sheet import Sheet

THUMBNAIL_SIDE, LARGE_SIDE = 260, 640  # pixels
NEXT = 4  # images shown small
ONE, PAGE, ALIKE = "One by one (O)", "Most certain first (P)", "More like this one (M)"
MODES = {"o": ONE, "p": PAGE, "m": ALIKE}
MODE_KEYS = (
    ("P", "most certain first, a page at a time"),
    ("M", "more like this one"),
    ("F", "enlarge the image"),
)
PICK_KEYS = (
    ("click or Space", "take the image out, or put it back"),
    ("Enter", "give the chosen images the proposed label"),
    ("1 … 9, 0, N", "give them this label"),
    ("← ↑ ↓ →, Page ↑ ↓", "move"),
    ("Z", "undo"),
    ("Y", "redo"),
    ("F", "enlarge the image"),
    ("O or Esc", "one by one"),
)
CAPTURED = [
    *DIGITS,
    *"nxszyfopm",
    "Ctrl+z",
    "Ctrl+y",
    " ",
    "Enter",
    "Escape",
    *pages.STEPS,
    *pages.ROWS,
    *pages.PAGES,
    *pages.ENDS,
]
ALL_OUT = "no other image to propose; those taken out come back one by one (O)"
NO_PROPOSALS = "no proposals yet: give two labels to images first, one by one"


class Proposer(Panel):
    """The image to label with the proposed label, or a page of images to label at once.

    `proposals` and `Picks` hold all state. Every answer is on disk before the next image is shown.

    Attributes
    ----------
    mode : `ONE`, `PAGE` or `ALIKE`.
    picks : the images of the page, in the other two modes.
    """

    trains_again = False

    def __init__(self, proposals: Proposals) -> None:
        """Show the first image to label."""
        self.proposals, self.mode = proposals, ONE
        self.picks = Picks(rows=3, columns=5)
        self._lock = threading.RLock()  # `refresh` runs in the thread that learns, too
        self._shown: tuple[str, float] | None = None  # the proposal on the screen
        self._proposed: dict[int, tuple[str, float]] = {}  # those on the page
        super().__init__(proposals.annotations, PreviousSplit({}), self._press_key, CAPTURED)
        folder = self.annotations.dataset.folder
        self._thumbnails = Thumbnails(folder, THUMBNAIL_SIDE)
        self._large_pictures = Thumbnails(folder, LARGE_SIDE, most=40)
        self._build([self._toolbar(), self._middle()], ())
        self.refresh(seconds=WAIT_SECONDS_AT_START)
        proposals.observers.append(self._on_learnt)

    def _toolbar(self) -> HBox:
        self.modes = ToggleButtons(options=(ONE, PAGE, ALIKE))
        self.modes.style.button_width = "auto"
        self._on_user_choice(self.modes, self._enter)
        self.wanted = Dropdown(description="Proposed label", layout=Layout(width="230px"))
        self._on_user_choice(self.wanted, lambda _: self._fill_page())
        self.progress = HTML()
        return HBox(
            [self.modes, self.wanted, self.progress],
            layout=Layout(flex_flow="row wrap", align_items="center", grid_gap="2px 12px"),
        )

    def _middle(self) -> HBox:
        self.large = ipywidgets.Image(
            format="jpeg", layout=Layout(flex="1 1 0", min_height="60px", width="100%", object_fit="contain")
        )
        self.details = HTML(layout=Layout(flex="0 0 auto"))
        self.strip = Sheet(
            self._next_pictures, rows=1, columns=NEXT, empty="", layout=Layout(width="100%", height="100%")
        )
        self._strip_box = VBox([self.strip], layout=Layout(flex="0 0 104px", width="100%"))
        self.one = VBox(
            [self.large, self.details, self._strip_box], layout=Layout(flex="1 1 0", min_width="0")
        )
        self.page = PickSheet(
            self.picks,
            self.annotations,
            self._thumbnails,
            execute=self._execute,
            relabel=lambda position, label: self._after(self.proposals.label_all([position], label)),
            proposal=self._proposed.get,
            layout=Layout(flex="1 1 0", min_width="0"),
        )
        middle = HBox(
            [self.one, self.page, self._side_bar()],
            layout=Layout(height="clamp(480px, 66vh, 900px)", grid_gap="8px"),
        )
        return self._zoomable(middle)

    def _side_bar(self) -> VBox:
        self.proposal = HTML(layout=Layout(flex="0 0 auto"))
        self.labels = GridBox(
            layout=Layout(
                flex="0 1 auto",
                max_height="40%",
                min_height="56px",
                overflow="hidden auto",
                grid_template_columns="repeat(auto-fill, minmax(126px, 1fr))",
            )
        )
        self.label_box = LabelBox(
            add=lambda name: self._execute(lambda: self._add_label(name)), layout=Layout(flex="0 0 auto")
        )
        filling = {"flex": "1 1 0", "width": "auto", "height": "auto", "min_height": "0", "min_width": "0"}
        self.curve = AccuracyCurve(layout=Layout(**filling))
        self._curve_box = VBox([self.curve], layout=Layout(**filling))  # a figure cannot be hidden
        self.accuracy = HTML(layout=Layout(flex="0 0 auto"))
        return VBox(
            [self.proposal, self.labels, self.label_box, self._commands(), self.accuracy, self._curve_box],
            layout=Layout(width="clamp(270px, 34%, 460px)", flex="0 0 auto", height="100%"),
        )

    def _commands(self) -> GridBox:
        press = [
            ("Accept (Space)", " ", "Give the image the proposed label"),
            ("Accept (Enter)", "Enter", "Give the chosen images the proposed label"),
            ("Exclude (X)", "x", "Exclude it from all later stages"),
            ("Skip (S)", "s", "Ask again at the end"),
            ("Undo (Z)", "z", "Undo the latest answer"),
            ("Redo (Y)", "y", "Give the undone answer again"),
        ]
        buttons = [self._button(text, partial(self._press_key, key, False), tip) for text, key, tip in press]
        self._of_one, self._of_pages = [buttons[0], buttons[2], buttons[3]], [buttons[1]]
        columns = "repeat(auto-fit, minmax(118px, 1fr))"
        return GridBox(buttons, layout=Layout(flex="0 0 auto", grid_template_columns=columns))

    # Commands

    def _press_key(self, key: str, shift: bool) -> str:
        if key in MODES:
            return self._enter(MODES[key])
        if self.mode == ONE:
            if key == " " and self.proposals.proposal != self._shown:
                return "a label has just been proposed: press Space again to accept it"
            return self.proposals.press(key, shift=shift)
        if key == "Escape":
            return self._enter(ONE)
        if key in DIGITS:
            return self._label_chosen(label_of_key(key, self.annotations.labels))
        commands: dict[str, Callable[[], object]] = {
            "n": lambda: self._label_chosen(NONE),
            "Enter": self._accept_page,
            "z": lambda: self._after(self.proposals.redo() if shift else self.proposals.undo()),
            "y": lambda: self._after(self.proposals.redo()),
            " ": self.picks.toggle,
        }
        if key in commands:
            return str(commands[key]() or "")
        self.picks.navigate(key)
        return ""

    def _enter(self, mode: str) -> str:
        if mode == ALIKE and self.proposals.current is None:
            raise ImgclfError("no image is left to label; undo brings the last one back")
        self.mode = mode
        self._fill_page()
        return ""

    def _fill_page(self) -> None:
        """Show the next images of the mode on the page, and keep their proposals: the model learns on.

        Images that a person took out stay out until mode `ONE`.
        """
        picks, most, current = self.picks, self.picks.page_size, self.proposals.current
        proposed: dict[int, tuple[str, float] | None] = {}
        if self.mode == PAGE:
            wanted = self.wanted.value or ""
            proposed |= self.proposals.most_certain(wanted, most=most, without=picks.left_out)
        elif self.mode == ALIKE and current is not None:
            picks.left_out.discard(current)
            alike = self.proposals.similar(current, most=most - 1)
            proposed = {current: self.proposals.proposal} | {i: self.proposals.proposal_for(i) for i in alike}
        else:
            self.mode = ONE
            picks.left_out.clear()
        picks.show(list(proposed))
        self._proposed.clear()
        self._proposed |= {i: proposal for i, proposal in proposed.items() if proposal}

    def _accept_page(self) -> str:
        """Give the chosen images their proposed labels; in mode `ALIKE`, all get that of the first image."""
        if self.mode == ALIKE:
            if self._shown is None:
                raise ImgclfError("no label is proposed for the first image; choose one by its number")
            return self._label_chosen(self._shown[0])
        return self._after(self.proposals.label_each({i: self._proposed[i][0] for i in self.picks.chosen}))

    def _label_chosen(self, label: str) -> str:
        if not self.picks.chosen:
            raise ImgclfError("no image is chosen; put one back by a click")
        return self._after(self.proposals.label_all(self.picks.chosen, label))

    def _relabel(self, label: str) -> object:
        return self.proposals.relabel(label) if self.mode == ONE else self._label_chosen(label)

    def _add_label(self, name: str) -> str:
        if self.mode == ONE:
            return str(self.proposals.add_label(name))
        return self._after(self.proposals.add_label(name, self.picks.chosen))

    def _after(self, result: ChangeResult) -> str:
        """Show the next page; after a page of mode `ALIKE`, go back to mode `ONE`."""
        if self.mode == ALIKE:
            self.mode = ONE
        self._fill_page()
        return str(result)

    # Display

    def _on_learnt(self) -> None:
        """Show the state after a step of learning; runs in another thread. The current image stays."""
        if self._ignores_callbacks:
            return  # a refresh follows
        with self._lock:
            if self.mode == PAGE and not self.picks.order:
                self._fill_page()
            self.refresh()

    def refresh(self, *, seconds: float = WAIT_SECONDS) -> None:
        """Show the current state; wait at most `seconds` for the large picture."""
        with self._lock:
            self._shown = self.proposals.proposal
            self._refresh_mode()
            self._refresh_side_bar()  # first, so that no picture is shown beside the proposal for another one
            if self.mode == ONE:
                self._refresh_one(seconds)
            else:
                nothing = ALL_OUT if self.picks.left_out else NO_PROPOSALS
                self.page.refresh(nothing if self.proposals.left else "all images have a label")
            self._refresh_zoom()

    def _refresh_mode(self) -> None:
        is_one = self.mode == ONE
        self.one.layout.display = "" if is_one else "none"
        self.page.layout.display = "none" if is_one else ""
        self.wanted.layout.display = "" if self.mode == PAGE else "none"
        for button in self._of_one:
            button.layout.display = "" if is_one else "none"
        for button in self._of_pages:
            button.layout.display = "none" if is_one else ""
        labels = [*self.annotations.labels, NONE]
        options = [("any", ""), *((in_words(label), label) for label in labels)]
        with self._ignore_callbacks():
            self.modes.value = self.mode
            if list(self.wanted.options) != options:
                chosen = self.wanted.value
                self.wanted.options = options
                self.wanted.value = chosen if chosen in labels else ""
        self.legend.value = key_legend((*KEYS, *MODE_KEYS) if is_one else PICK_KEYS)

    def _refresh_one(self, seconds: float) -> None:
        near = self.near_images()
        upcoming = near[1:]
        self.strip.tiles = [_small(image) for image in upcoming]
        self._strip_box.layout.visibility = "visible" if upcoming else "hidden"
        self._thumbnails.prepare((picture_key(image), image.path) for image in upcoming)
        picture = b""
        if near:
            pairs = [(picture_key(image), image.path) for image in near]
            self._large_pictures.prepare(pairs)
            picture = self._large_pictures.ready(pairs[:1], seconds=seconds).get(pairs[0][0], b"")
        self.large.value = picture
        self.large.layout.visibility = "visible" if picture else "hidden"
        text = escape(near[0].path) if near else "All images have a label."
        self.details.value = f"<div class='imgclf-details'>{text}</div>"

    def _refresh_side_bar(self) -> None:
        counts = self.annotations.label_counts()
        given, left = self.proposals.answered, self.proposals.left
        self.progress.value = f"<b>{given}</b> labels given, <b>{left}</b> images left"
        buttons = self._label_buttons(
            self._relabel,
            lambda label: f"{'none of these' if label == NONE else plots.short(label)} · {counts[label]}",
            self.annotations.labels,
        )
        proposed = self._shown[0] if self._shown and self.mode == ONE else ""
        labels = [*self.annotations.labels, UNLABELLED, NONE]
        for label, button in zip(labels, buttons, strict=True):
            button.icon = "check" if label == proposed else ""
        self.labels.children = [
            button for label, button in zip(labels, buttons, strict=True) if label != UNLABELLED
        ]
        self.proposal.value = self._proposal_text()
        estimates = self.proposals.accuracy()
        self.curve.show(estimates)
        self._curve_box.layout.visibility = "visible" if estimates else "hidden"
        self.accuracy.value = escape(self._accuracy_text(str(estimates[-1]) if estimates else ""))

    def _accuracy_text(self, latest: str) -> str:
        if error := self.proposals.error:
            return f"Learning has stopped, labels are still kept: {type(error).__name__}: {error}"
        return latest or "The accuracy cannot be estimated yet: one image in six is drawn at random for it."

    def _proposal_text(self) -> str:
        """Return what Space or Enter does, as HTML."""
        if self.mode == ONE:
            if self.proposals.current is None:
                return "<div class='imgclf-proposal'>All images have a label.</div>"
            if self._shown is None:
                text = "No proposal yet: choose a label by its number, or write a new one below."
                return f"<div class='imgclf-proposal'>{text}</div>"
            label, probability = self._shown
            bar = f"<meter min='0' max='1' value='{probability:.3f}'></meter>"
            return (
                f"<div class='imgclf-proposal'><b>{escape(in_words(label))}?</b> {probability:.2f} {bar}"
                "<br><kbd>Space</kbd> accepts, a digit corrects</div>"
            )
        what = f"<b>{len(self.picks.chosen)}</b> of {len(self.picks.order)} images chosen"
        enter = "the label proposed for each"
        if self.mode == ALIKE:
            enter = f"'{escape(in_words(self._shown[0]))}'" if self._shown else ""
        by_enter = f"<kbd>Enter</kbd> gives them {enter}, a digit another label"
        text = by_enter if enter else "A digit gives them a label"
        return f"<div class='imgclf-proposal'>{what}<br>{text}</div>"

    def near_images(self) -> list[Image]:
        """Return the image to label, or the one at the cursor of the page, and those after it."""
        if self.mode == ONE:
            current = self.proposals.current
            positions = [] if current is None else [current, *self.proposals.upcoming(NEXT)]
        else:
            positions = self.picks.order[self.picks.current :][:2]
        return [self.annotations.images[position] for position in positions]

    def _next_pictures(self, keys: list[str]) -> dict[str, bytes]:
        near = {picture_key(image): image.path for image in self.near_images()}
        return self._thumbnails.ready([(key, near[key]) for key in keys if key in near], seconds=WAIT_SECONDS)

    def __repr__(self) -> str:
        return f"[proposals for {self.proposals.left} images: run this cell to use it]"


def _small(image: Image) -> dict[str, object]:
    """Return the tile of one of the next images."""
    return {
        "key": picture_key(image),
        "name": image.path.rpartition("/")[2],
        "label": "",
        "colour": "",
        "badge": "",
        "dimmed": False,
    }
