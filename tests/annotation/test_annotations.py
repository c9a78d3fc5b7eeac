"""Labels corrected by a person: every state change, on real files, without a browser."""

import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations, consequences
from imgclf.data import dataset, scan, split
from imgclf.data.journal import LOCK, NAME
from imgclf.images import decoding
from support.pictures import picture


@pytest.fixture
def notes(colour_folder) -> Annotations:
    (colour_folder / "unlabelled").mkdir()
    (colour_folder / "blue" / "11.jpg").rename(colour_folder / "unlabelled" / "x.jpg")
    return opened(colour_folder)


def opened(folder: Path) -> Annotations:
    return Annotations(scan.scan_folder("colours", folder))


def at(notes: Annotations, path: str) -> int:
    return [image.path for image in notes.images].index(path)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file and folder but the journal and its lock."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes() if path.is_file() else b""
        for name, path in found.items()
        if name not in (NAME, LOCK)
    }


def test_relabelling_moves_the_file_and_changes_the_counts(notes):
    i = at(notes, "red/03.jpg")
    content = (notes.dataset.folder / "red/03.jpg").read_bytes()
    (notes.dataset.folder / "blue/03.jpg").unlink()
    assert str(notes.relabel([i], "blue")) == "blue/03.jpg: now 'blue'"
    assert not (notes.dataset.folder / "red/03.jpg").exists()
    assert (notes.dataset.folder / "blue/03.jpg").read_bytes() == content
    assert (notes.images[i].path, notes.images[i].label) == ("blue/03.jpg", "blue")
    assert notes.counts()["red"] == 11 and notes.is_changed(i) and notes.is_seen(i)


def test_a_file_of_that_name_is_not_overwritten_and_nothing_moves(notes):
    before = contents(notes.dataset.folder)
    with pytest.raises(
        ImgclfError,
        match=r"^blue/03.jpg: there is a file of that name already, so nothing was moved; rename one of the two$",
    ):
        notes.relabel([at(notes, "unlabelled/x.jpg"), at(notes, "red/03.jpg")], "blue")
    assert contents(notes.dataset.folder) == before and not (notes.dataset.folder / NAME).exists()


def test_two_selected_files_of_one_name_do_not_overwrite_each_other(notes):
    before = contents(notes.dataset.folder)
    notes.add_label("odd")
    with pytest.raises(ImgclfError, match="there is a file of that name already"):
        notes.relabel([at(notes, "red/03.jpg"), at(notes, "blue/03.jpg")], "odd")
    assert contents(notes.dataset.folder) == {**before, "odd": b""}


def test_the_label_it_has_already_is_a_confirmation(notes):
    i = at(notes, "red/03.jpg")
    notes.relabel([i], "red")
    assert notes.is_seen(i) and not notes.is_changed(i) and notes.seen() == 1


def test_a_subfolder_goes_along_and_leaves_with_the_undo(notes):
    folder = notes.dataset.folder
    (folder / "red/shop").mkdir()
    (folder / "red/03.jpg").rename(folder / "red/shop/03.jpg")
    notes, before = opened(folder), contents(folder)
    notes.relabel([at(notes, "red/shop/03.jpg")], "blue")
    assert (folder / "blue/shop/03.jpg").exists() and notes.images[
        at(notes, "blue/shop/03.jpg")
    ].group == "shop"
    notes.undo()
    assert contents(folder) == before


def test_excluded_images_stay_and_are_skipped_by_later_stages(notes):
    i = at(notes, "red/03.jpg")
    notes.exclude([i])
    assert (notes.dataset.folder / "red/03.jpg").exists() and notes.counts()["red"] == 11
    found = scan.scan_folder("colours", notes.dataset.folder)
    assert [(image.path, image.excluded) for image in found.excluded] == [("red/03.jpg", dataset.BY_HAND)]
    assert "red/03.jpg" not in {image.path for image in found.images}
    notes.include([i])
    assert not scan.scan_folder("colours", notes.dataset.folder).excluded


def test_an_excluded_image_that_is_moved_by_hand_stays_excluded(notes):
    notes.exclude([at(notes, "red/03.jpg")])
    (notes.dataset.folder / "red/03.jpg").rename(notes.dataset.folder / "blue/new.jpg")
    assert [image.path for image in opened(notes.dataset.folder).now().excluded] == ["blue/new.jpg"]


def test_another_image_in_the_place_of_an_excluded_one_is_used(notes):
    notes.exclude([at(notes, "red/03.jpg")])
    shutil.copy(notes.dataset.folder / "unlabelled/x.jpg", notes.dataset.folder / "red/03.jpg")
    assert not [image for image in opened(notes.dataset.folder).images if image.excluded == dataset.BY_HAND]


def test_an_image_without_a_label_gets_one_and_can_lose_it(notes):
    i = at(notes, "unlabelled/x.jpg")
    assert notes.images[i].excluded == dataset.NO_LABEL
    notes.relabel([i], "blue")
    assert not notes.images[i].excluded and notes.counts()["unlabelled"] == 0
    notes.relabel([i], "unlabelled")
    assert notes.images[i].excluded == dataset.NO_LABEL and notes.counts()["unlabelled"] == 1


def test_undo_works_tomorrow_and_takes_all_of_a_selection_back(notes):
    before = contents(notes.dataset.folder)
    notes.add_label("odd")
    notes.relabel([at(notes, f"red/{i:02d}.jpg") for i in range(5)], "odd")
    notes.exclude([at(notes, "odd/02.jpg")])
    tomorrow = opened(notes.dataset.folder)
    assert str(tomorrow.undo()) == "took back: excluded odd/02.jpg"
    assert str(tomorrow.undo()) == "took back: red/04.jpg is 'red' again and 4 more"
    assert str(tomorrow.undo()) == "took back: new label odd" and tomorrow.labels == ["blue", "green", "red"]
    assert contents(notes.dataset.folder) == before
    with pytest.raises(ImgclfError, match="^there is no change left to take back$"):
        tomorrow.undo()


def test_the_undo_of_a_change_to_an_image_that_is_gone_is_noted_and_those_before_work(notes):
    notes.exclude([at(notes, "green/01.jpg")])
    notes.relabel([at(notes, "unlabelled/x.jpg")], "red")
    (notes.dataset.folder / "red/x.jpg").unlink()
    assert (
        str(notes.undo())
        == "cannot be taken back, since it is not there any more or is another image: red/x.jpg"
    )
    assert str(notes.undo()) == "took back: excluded green/01.jpg"


def test_undo_is_refused_while_another_file_stands_in_the_way(notes):
    folder = notes.dataset.folder
    notes.relabel([at(notes, "unlabelled/x.jpg")], "red")
    shutil.copy(folder / "red/x.jpg", folder / "unlabelled/x.jpg")
    with pytest.raises(ImgclfError, match=r"^unlabelled/x.jpg: there is a file of that name already"):
        notes.undo()
    (folder / "unlabelled/x.jpg").unlink()
    assert str(notes.undo()) == "took back: unlabelled/x.jpg is 'unlabelled' again"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        (".hidden", "begins with a dot"),
        ("a/b", "has a slash"),
        ("Red", "there is a label 'red' already"),
        ("unlabelled", "is the folder of images without a label"),
        ("x\0", "control character"),
        ("..", "begins with a dot"),
    ],
)
def test_a_bad_name_for_a_label_is_refused(notes, name, message):
    before = contents(notes.dataset.folder)
    with pytest.raises(ImgclfError, match=message):
        notes.add_label(name)
    assert contents(notes.dataset.folder) == before


def test_a_label_that_nobody_added_is_refused(notes):
    with pytest.raises(ImgclfError, match="^there is no label 'odd'; add it first$"):
        notes.relabel([0], "odd")


def test_a_change_in_another_window_is_shown_and_nothing_is_done_to_the_image(notes):
    other = opened(notes.dataset.folder)
    i = at(notes, "unlabelled/x.jpg")
    other.relabel([i], "red")
    with pytest.raises(
        ImgclfError, match=r"^red/x.jpg: was changed in another window just now; look at it and press again$"
    ):
        notes.relabel([i], "blue")
    assert notes.images == other.images
    notes.relabel([i], "blue")
    assert other.follow() == (i,) and other.images[i].path == "blue/x.jpg"


def test_labels_of_another_window_appear(notes):
    other = opened(notes.dataset.folder)
    other.add_label("odd")
    notes.follow()
    assert notes.labels == ["blue", "green", "odd", "red"]


def test_an_image_that_someone_moved_or_replaced_gives_a_message(notes):
    folder = notes.dataset.folder
    (folder / "red/03.jpg").rename(folder / "elsewhere.jpg")
    shutil.copy(folder / "red/05.jpg", folder / "red/04.jpg")
    for path in ("red/03.jpg", "red/04.jpg"):
        with pytest.raises(
            ImgclfError,
            match=rf"^{path}: (no longer exists|is another image now); run 01_prepare_data again",
        ):
            notes.exclude([at(notes, path)])
    assert not notes.journal.active


def test_what_the_screen_says_of_an_exclusion_is_what_a_fresh_look_finds(colour_folder):
    shutil.copy(colour_folder / "red/03.jpg", colour_folder / "red/copy.jpg")
    (colour_folder / "red/bad.jpg").write_bytes(b"not an image")
    notes = opened(colour_folder)
    reasons = [image.excluded for image in notes.images]
    a, copy, bad = (at(notes, f"red/{name}.jpg") for name in ("00", "copy", "bad"))
    notes.exclude([a])
    notes.exclude([a, copy, bad])
    assert [notes.images[i].excluded for i in (a, copy, bad)] == [dataset.BY_HAND] * 3
    notes.undo()
    assert notes.images[a].excluded == dataset.BY_HAND and [
        notes.images[i].excluded for i in (copy, bad)
    ] == [reasons[copy], reasons[bad]]
    notes.undo()
    assert [image.excluded for image in notes.images] == reasons


def test_the_twin_of_an_excluded_image_that_was_deleted_is_used(colour_folder):
    shutil.copy(colour_folder / "red/03.jpg", colour_folder / "blue/same.jpg")
    notes = opened(colour_folder)
    notes.exclude([at(notes, "red/03.jpg")])
    (colour_folder / "red/03.jpg").rename(colour_folder / "red/moved.jpg")
    assert not [
        image for image in opened(colour_folder).images if image.path == "blue/same.jpg" and image.excluded
    ]


def test_an_image_that_was_excluded_moved_by_hand_and_taken_in_again_is_used(notes):
    folder = notes.dataset.folder
    notes.exclude([at(notes, "red/03.jpg")])
    (folder / "red/03.jpg").rename(folder / "blue/new.jpg")
    notes = opened(folder)
    notes.include([at(notes, "blue/new.jpg")])
    assert not opened(folder).now().excluded


def test_an_image_that_was_edited_does_not_keep_older_changes_from_being_taken_back(notes):
    folder = notes.dataset.folder
    notes.exclude([at(notes, "green/01.jpg")])
    notes.confirm([at(notes, "red/03.jpg")])
    notes.exclude([at(notes, "red/03.jpg")])
    shutil.copy(folder / "red/05.jpg", folder / "red/03.jpg")
    assert [str(notes.undo()) for _ in range(3)] == [
        "took back: excluded red/03.jpg",
        "took back: seen red/03.jpg",
        "took back: excluded green/01.jpg",
    ]


def test_annotations_of_a_look_that_is_older_take_in_what_came_since(notes):
    i, j = at(notes, "unlabelled/x.jpg"), at(notes, "red/03.jpg")
    notes.add_label("odd")
    notes.relabel([i], "odd")
    notes.exclude([j])
    again = Annotations(notes.dataset)
    assert again.images == notes.images and again.labels == notes.labels
    again.undo()
    assert Annotations(notes.dataset).images[j].excluded == ""


def test_undo_shows_what_another_window_did_before_it_takes_that_back(notes):
    other = opened(notes.dataset.folder)
    other.relabel([at(notes, "unlabelled/x.jpg")], "red")
    with pytest.raises(
        ImgclfError,
        match="^another window has changed something just now; look at it, and press again to take that back$",
    ):
        notes.undo()
    assert str(notes.undo()) == "took back: unlabelled/x.jpg is 'unlabelled' again"


def test_a_label_that_another_window_took_back_is_refused(notes):
    other = opened(notes.dataset.folder)
    other.add_label("odd")
    notes.follow()
    other.undo()
    with pytest.raises(ImgclfError, match="^there is no label 'odd'; add it first$"):
        notes.relabel([0], "odd")


def test_a_new_image_in_the_place_of_one_that_was_seen_is_not_seen(notes):
    i = at(notes, "red/03.jpg")
    notes.confirm([i])
    shutil.copy(notes.dataset.folder / "unlabelled/x.jpg", notes.dataset.folder / "red/03.jpg")
    fresh = opened(notes.dataset.folder)
    assert notes.is_seen(i) and not fresh.is_seen(at(fresh, "red/03.jpg")) and fresh.seen() == 0


def test_a_file_whose_name_is_not_utf8_is_not_mistaken_for_another(colour_folder):
    (colour_folder / "red/a?.jpg").write_bytes((colour_folder / "red/00.jpg").read_bytes())
    (Path(os.fsdecode(os.fsencode(colour_folder / "red") + b"/a\xff.jpg"))).write_bytes(
        (colour_folder / "red/01.jpg").read_bytes()
    )
    (Path(os.fsdecode(os.fsencode(colour_folder / "red") + b"/n\xff.txt"))).write_text("")
    Path(os.fsdecode(os.fsencode(colour_folder) + b"/l\xff")).mkdir()
    notes = opened(colour_folder)
    dataset.write(notes.dataset)
    odd = next(i for i, image in enumerate(notes.images) if "not UTF-8" in image.excluded)
    with pytest.raises(
        ImgclfError,
        match=r"^red/a\?.jpg: the name is not UTF-8; rename it; until then it cannot be changed here$",
    ):
        notes.relabel([odd], "blue")
    assert notes.labels == ["blue", "green", "red"]


def test_a_folder_that_is_gone_gives_a_message(notes):
    notes.dataset.folder.rename(notes.dataset.folder.with_name("gone"))
    with pytest.raises(ImgclfError, match="the folder no longer exists"):
        Annotations(notes.dataset)


def test_stages_after_01_refuse_a_list_that_is_older_than_the_labels(notes):
    dataset.write(notes.dataset)
    notes.confirm([0])
    notes.relabel([at(notes, "unlabelled/x.jpg")], "red")
    with pytest.raises(
        ImgclfError,
        match="^labels of colours were changed after 01_prepare_data scanned its images; run 01_prepare_data again$",
    ):
        dataset.read("colours")
    assert "1 image differs from what 01_prepare_data saw. Run 01_prepare_data" in consequences(
        notes, split.PreviousSplit({})
    )
    notes.undo()
    assert dataset.read("colours") == notes.dataset and consequences(notes, split.PreviousSplit({})) == ""
    notes.exclude([0])
    dataset.write(scan.scan_folder("colours", notes.dataset.folder))
    assert consequences(notes, split.PreviousSplit({})) == ""  # 01 has run again


def test_changed_today_counts_what_stands(notes):
    i, today = at(notes, "unlabelled/x.jpg"), date.today()
    notes.confirm([i])
    assert not notes.is_changed(i, today)
    notes.relabel([i], "red")
    assert notes.is_changed(i, today) and not notes.is_changed(i, today - timedelta(days=1))
    notes.undo()
    assert not notes.is_changed(i) and notes.is_seen(i)


def test_observers_hear_of_every_change(notes):
    heard = []
    notes.observers.append(heard.append)
    i = at(notes, "unlabelled/x.jpg")
    notes.relabel([i], "red")
    notes.undo()
    assert heard == [(i,), (i,)]


def test_copies_are_found_anew_when_labels_change(colour_folder):
    shutil.copy(colour_folder / "red/03.jpg", colour_folder / "blue/copy.jpg")
    notes = opened(colour_folder)
    assert not notes.now().excluded
    notes.relabel([at(notes, "blue/copy.jpg")], "red")
    assert notes.now().excluded == opened(colour_folder).dataset.excluded
    assert [image.excluded for image in notes.now().excluded] == ["duplicate of red/03.jpg"]


def test_the_data_set_as_it_is_now_is_what_a_fresh_look_finds(notes):
    notes.add_label("odd")
    notes.relabel([at(notes, "red/03.jpg"), at(notes, "unlabelled/x.jpg")], "odd")
    notes.exclude([at(notes, "green/01.jpg")])
    fresh = scan.scan_folder("colours", notes.dataset.folder)
    assert sorted(notes.now().files, key=lambda image: image.path) == sorted(
        fresh.files, key=lambda image: image.path
    )
    assert {(i.path, i in split.split(fresh).train) for i in fresh.images} == {
        (i.path, i in split.split(notes.now()).train) for i in fresh.images
    }


class Annotating(RuleBasedStateMachine):
    """Two windows on one folder, and somebody who moves files by hand."""

    LABELS = ("blue", "green", "odd", "red", "unlabelled")
    positions = st.lists(st.integers(0, 11), min_size=1, max_size=4, unique=True)
    windows = st.integers(0, 1)

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "images"
        for i in range(12):
            path = (
                self.folder / self.LABELS[i % 2] / f"{i % 5}" / f"{i % 4}.jpg"
            )  # names that clash, in groups
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(decoding.jpeg(picture((120, 120, 120), seed=i)))
        self.before, self.bytes = (
            contents(self.folder),
            sorted(path.read_bytes() for path in self.folder.rglob("*.jpg")),
        )
        self.notes = [opened(self.folder), opened(self.folder)]
        self.moved_by_hand = False

    def attempt(self, work, *arguments) -> None:
        try:
            work(*arguments)
        except ImgclfError as error:
            assert str(error)

    @rule(window=windows, positions=positions, label=st.sampled_from(LABELS))
    def relabel(self, window, positions, label):
        self.attempt(self.notes[window].relabel, positions, label)

    @rule(window=windows, positions=positions)
    def exclude(self, window, positions):
        self.attempt(self.notes[window].exclude, positions)

    @rule(window=windows, positions=positions)
    def include(self, window, positions):
        self.attempt(self.notes[window].include, positions)

    @rule(window=windows, positions=positions)
    def confirm(self, window, positions):
        self.attempt(self.notes[window].confirm, positions)

    @rule(window=windows)
    def add_label(self, window):
        self.attempt(self.notes[window].add_label, "odd")

    @rule(window=windows)
    def undo(self, window):
        self.attempt(self.notes[window].undo)

    @rule(window=windows)
    def open_again(self, window):
        self.notes[window] = opened(self.folder)

    @rule(number=st.integers(0, 11))
    def move_by_hand(self, number):
        path = sorted(self.folder.rglob("*.jpg"))[number]
        path.rename(path.with_name(f"by hand {len(path.name)} {number} {path.name}"))
        self.moved_by_hand = True

    @precondition(lambda self: not self.moved_by_hand)
    @rule()
    def take_all_back(self):
        notes = opened(self.folder)
        while notes.journal.active:
            notes.undo()
        assert contents(self.folder) == self.before

    @invariant()
    def no_image_is_lost_or_doubled(self):
        assert sorted(path.read_bytes() for path in self.folder.rglob("*.jpg")) == self.bytes

    @invariant()
    def every_window_shows_what_is_on_disk(self):
        if self.moved_by_hand:
            return
        fresh = {
            (image.path, image.label, image.sha256, image.excluded)
            for image in scan.scan_folder("colours", self.folder).files
        }
        for notes in self.notes:
            notes.follow()
            assert {
                (image.path, image.label, image.sha256, image.excluded) for image in notes.images
            } == fresh

    def teardown(self) -> None:
        if not self.moved_by_hand:
            self.take_all_back()
        self.temporary.cleanup()


TestTwoHundredRandomOperations = Annotating.TestCase
TestTwoHundredRandomOperations.settings = settings(
    max_examples=4, stateful_step_count=200, deadline=None, suppress_health_check=list(HealthCheck)
)
