"""Proposed labels: what is asked, every command, and what else happens meanwhile, on real files."""

import gc
import hashlib
import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgclf import ImgclfError, features, files
from imgclf.annotation import query_rules
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.proposals import Proposals
from imgclf.data import scan
from imgclf.data.dataset import UNLABELLED, Dataset
from imgclf.features import Features
from imgclf.features.pretrained import features_of
from imgclf.images import decoding
from support.networks import write_tiny_network
from support.pictures import COLOURS, picture

COUNT = 40


def truth(path: str) -> str:
    """The label of an unlabelled image, which its name tells."""
    return Path(path).name.partition("-")[0]


def write_unlabelled(folder: Path, colours: dict[str, tuple[int, int, int]], count: int = COUNT) -> Path:
    """Write images without a label, as many of each colour."""
    (folder / UNLABELLED).mkdir(parents=True)
    for i in range(count):
        label = list(colours)[i % len(colours)]
        jpeg = decoding.jpeg(picture(colours[label], seed=i))
        (folder / UNLABELLED / f"{label}-{i:03d}.jpg").write_bytes(jpeg)
    return folder


def described(dataset: Dataset) -> Features:
    """The features of all images by a tiny real network."""
    network = files.proc_dir(dataset.name) / files.FIXED_NETWORK
    if not network.exists():
        network.parent.mkdir(parents=True, exist_ok=True)
        write_tiny_network(network)
    return features_of(dataset)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_unlabelled(tmp_path / "colours", COLOURS)


def opened(folder: Path, **options) -> Proposals:
    scanned = scan.scan_folder("colours", folder)
    return Proposals(Annotations(scanned), described(scanned), **options)


@pytest.fixture
def proposals(folder):
    proposals = opened(folder)
    yield proposals
    proposals.close()


def path(proposals: Proposals, position: int | None = None) -> str:
    return proposals.annotations.images[proposals.current if position is None else position].path


def answer(proposals: Proposals) -> str:
    """Answer the current image as a person would, and return the key, or the name of a new label."""
    label, labels = truth(path(proposals)), proposals.annotations.labels
    if proposals.proposal and proposals.proposal[0] == label:
        key = " "
    elif label in labels:
        key = str(labels.index(label) + 1)
    else:
        proposals.add_label(label)
        return label
    proposals.press(key)
    return key


def answer_some(proposals: Proposals, count: int, *, waiting: bool = True) -> None:
    for _ in range(count):
        answer(proposals)
        assert not waiting or proposals.wait(60)


def test_before_two_labels_have_images_nothing_is_proposed(proposals):
    assert proposals.proposal is None and proposals.left == COUNT
    with pytest.raises(ImgclfError, match=r"-\d+\.jpg: no label is proposed for it yet; give it one"):
        proposals.press(" ")
    first = truth(path(proposals))
    proposals.add_label(first)
    while truth(path(proposals)) == first:
        answer(proposals)
    proposals.wait(60)
    assert proposals.proposal is None and proposals.most_certain(most=5) == {}


def test_forty_images_are_labelled_with_few_keys_that_are_not_space(proposals):
    keys = []
    while proposals.current is not None:
        keys.append(answer(proposals))
        proposals.wait(60)
    assert len(keys) == COUNT and keys.count(" ") >= COUNT - 10
    assert proposals.left == 0 and proposals.annotations.label_counts() == Counter(blue=13, green=13, red=14)
    for image in proposals.annotations.images:
        assert truth(image.path) == image.label and proposals.annotations.dataset.file(image).exists()


def test_a_digit_corrects_a_proposal(proposals):
    answer_some(proposals, 6)
    shown, labels = proposals.current, proposals.annotations.labels
    other = next(label for label in labels if label != proposals.proposal[0])
    proposals.press(str(labels.index(other) + 1))
    assert proposals.annotations.images[shown].label == other and proposals.current != shown


def test_what_is_shown_does_not_change_while_the_model_learns(proposals):
    answer_some(proposals, 6)
    shown = proposals.current, proposals.proposal
    elsewhere = [i for i in proposals.similar(proposals.current, most=COUNT) if i != proposals.current][:5]
    wrong = next(label for label in proposals.annotations.labels if label != proposals.proposal[0])
    proposals.label_all(elsewhere, wrong)
    proposals.wait(60)
    assert (proposals.current, proposals.proposal) == shown
    assert proposals.proposal_for(proposals.current) != proposals.proposal


def test_undo_returns_to_the_image_and_then_to_the_one_that_was_shown(proposals):
    answer_some(proposals, 5)
    before, answered = proposals.current, proposals.answered
    answer_some(proposals, 1)
    shown = proposals.current
    proposals.press("z")
    assert (proposals.current, proposals.answered) == (before, answered)
    assert proposals.annotations.images[before].label == UNLABELLED
    answer(proposals)
    assert proposals.current == shown or (answered + 1) % 6 == 0
    proposals.press("z")
    proposals.press("y")
    assert proposals.annotations.images[before].label != UNLABELLED and proposals.current != before


def test_a_skipped_image_is_asked_again_when_no_other_is_left(proposals):
    skipped = proposals.current
    assert proposals.press("s") == "" and proposals.current != skipped
    while proposals.left > 1:
        assert proposals.current != skipped
        answer(proposals)
    assert proposals.current == skipped
    answer(proposals)
    assert proposals.current is None and proposals.left == 0


def test_undo_takes_back_a_skip_before_an_earlier_answer(proposals):
    answer(proposals)
    skipped = proposals.current
    proposals.skip()
    assert proposals.press("z") == f"{path(proposals, skipped)}: asked again"
    assert proposals.current == skipped and proposals.answered == 1
    proposals.press("z")
    assert proposals.answered == 0


def test_undo_takes_back_a_later_label_of_another_window_before_a_skip(proposals):
    proposals.add_label("red")
    skipped = proposals.current
    proposals.skip()
    other = proposals.current
    proposals.annotations.relabel([other], "red")
    proposals.press("z")
    assert proposals.annotations.images[other].label == UNLABELLED
    assert proposals.press("z") == f"{path(proposals, skipped)}: asked again"


def test_the_last_image_can_be_skipped_and_stays(proposals):
    while proposals.left > 1:
        answer(proposals)
    last = proposals.current
    proposals.skip()
    assert proposals.current == last


def test_identical_files_are_asked_once_and_labelled_by_one_change(folder):
    for name in ("red-000.jpg", "green-001.jpg"):
        shutil.copy(folder / UNLABELLED / name, folder / UNLABELLED / f"copy-of-{name}")
    proposals = opened(folder)
    assert (
        proposals.left == COUNT and proposals.answered == 0 and len(proposals.annotations.images) == COUNT + 2
    )
    while "red-000" not in path(proposals):
        proposals.skip()
    assert "2 images" in str(proposals.add_label("red")) and proposals.annotations.label_counts()["red"] == 2
    proposals.press("z")
    assert proposals.annotations.label_counts() == {UNLABELLED: COUNT}
    proposals.close()


def test_an_image_without_features_is_asked_last_and_without_a_proposal(folder):
    scanned = scan.scan_folder("colours", folder)
    known = described(scanned)
    proposals = Proposals(Annotations(scanned), known.subset(known.images[:-2]))
    answer_some(proposals, COUNT - 2)
    assert {path(proposals)} <= {image.path for image in known.images[-2:]} and proposals.proposal is None
    assert proposals.similar(proposals.current, most=3) == []
    last = proposals.current
    proposals.skip()
    assert proposals.current != last
    answer(proposals)
    assert proposals.current == last
    answer(proposals)
    assert proposals.current is None
    proposals.close()


def test_without_any_features_the_images_are_asked_nevertheless(folder):
    scanned = scan.scan_folder("colours", folder)
    proposals = Proposals(Annotations(scanned), Features(np.empty((0, 8), np.float32), ()))
    answer_some(proposals, COUNT)
    assert proposals.current is None and proposals.error is None
    proposals.close()


def test_without_unlabelled_images_there_is_nothing_to_answer(colour_folder):
    proposals = opened(colour_folder)
    assert (proposals.current, proposals.proposal, proposals.left) == (None, None, 0)
    with pytest.raises(ImgclfError, match="no image is left to label; undo brings the last one back"):
        proposals.press(" ")
    with pytest.raises(ImgclfError, match="no image is left to label"):
        proposals.skip()
    assert proposals.wait(60) and proposals.error is None and proposals.most_certain(most=3) == {}
    proposals.close()


def test_excluded_images_are_neither_asked_nor_learnt_from(proposals):
    answer_some(proposals, 4)
    excluded = proposals.current
    proposals.press("x")
    assert proposals.annotations.is_excluded(excluded) and proposals.left == COUNT - 5
    labelled = next(i for i, image in enumerate(proposals.annotations.images) if image.label != UNLABELLED)
    proposals.annotations.exclude([labelled])
    assert proposals.answered == 3
    proposals.annotations.undo()
    assert proposals.answered == 4


def test_images_of_none_of_the_labels_are_learnt_and_proposed(proposals):
    while proposals.answered < 12:
        if truth(path(proposals)) == "red":
            proposals.press("n")
        else:
            answer(proposals)
        proposals.wait(60)
    assert set(proposals.annotations.labels) == {"blue", "green"}
    red = next(i for i, im in enumerate(proposals.annotations.images) if "unlabelled/red" in im.path)
    assert proposals.proposal_for(red)[0] == "none_of_these"
    page = proposals.most_certain("none_of_these", most=3)
    proposals.label_each({i: label for i, (label, _) in page.items()})
    assert {proposals.annotations.images[i].label for i in page} == {"none_of_these"}


def test_a_label_that_is_renamed_meanwhile_is_proposed_by_its_new_name(proposals):
    answer_some(proposals, 9)
    label = proposals.proposal[0]
    proposals.annotations.rename_label(label, "new")
    assert proposals.proposal is None or proposals.proposal[0] != label
    proposals.wait(60)
    named = {
        proposals.proposal_for(i)[0]
        for i, image in enumerate(proposals.annotations.images)
        if truth(image.path) == label and image.label == UNLABELLED
    }
    assert "new" in named and label not in named


def test_an_image_that_another_window_has_labelled_is_not_asked(proposals, folder):
    other = Annotations(proposals.annotations.dataset)
    shown = proposals.current
    other.add_label("red", [shown])
    proposals.annotations.sync()
    assert proposals.current != shown and proposals.answered == 1
    other.relabel([proposals.current], "red")
    with pytest.raises(ImgclfError, match="another window has just changed this image; check it"):
        proposals.press("1")
    assert proposals.answered == 2 and path(proposals).startswith("unlabelled/")


def test_two_windows_label_the_same_images_without_losing_one(folder):
    scanned = scan.scan_folder("colours", folder)
    known = described(scanned)
    windows = [Proposals(Annotations(scanned), known, seed=seed) for seed in (0, 1)]
    while any(window.current is not None for window in windows):
        for window in windows:
            window.annotations.sync()
            if window.current is not None:
                answer(window)
    images = scan.scan_folder("colours", folder).images
    assert len(images) == COUNT and all(truth(image.path) == image.label for image in images)
    for window in windows:
        window.close()


def test_many_quick_answers_leave_the_model_of_all_of_them(proposals):
    answer_some(proposals, 30, waiting=False)
    assert proposals.wait(60) and proposals.error is None
    again = Proposals(Annotations(proposals.annotations.dataset), described(proposals.annotations.dataset))
    again.wait(60)
    for position in proposals.similar(proposals.current, most=9):
        label, _ = proposals.proposal_for(position)
        assert again.proposal_for(position)[0] == label
    again.close()


def test_observers_hear_of_answers_and_of_what_was_learnt(proposals):
    threads = []
    proposals.observers.append(lambda: threads.append(threading.current_thread().name))
    answer(proposals)
    proposals.wait(60)
    assert {"MainThread", "imgclf-learner"} <= set(threads)


def learners() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "imgclf-learner"]


def test_closing_ends_the_thread_and_labels_can_still_be_given(folder):
    proposals = opened(folder)
    assert len(learners()) == 1
    proposals.close()
    assert learners() == [] and proposals.annotations.observers == []
    proposals.add_label("red")
    proposals.close()


def test_a_second_one_of_the_same_annotations_ends_the_thread_of_the_first(folder):
    first = opened(folder)
    second = Proposals(first.annotations, described(first.annotations.dataset))
    assert len(learners()) == 1 and len(first.annotations.observers) == 1
    second.close()


def test_the_thread_ends_with_the_last_reference_to_the_proposals(folder):
    proposals = opened(folder)
    annotations = proposals.annotations
    del proposals
    gc.collect()
    assert learners() == [] and annotations.observers == []


def test_a_failure_to_learn_is_shown_with_the_next_answer(folder):
    scanned = scan.scan_folder("colours", folder)
    known = described(scanned)
    damaged = replace(known, matrix=np.full_like(known.matrix, np.nan))
    proposals = Proposals(Annotations(scanned), damaged)
    answer_some(proposals, 6)
    assert "nothing is learnt: ValueError" in proposals.press("1")
    assert "NaN" in str(proposals.error) and proposals.answered == 7
    proposals.close()


def test_images_whose_label_comes_from_a_search_are_asked_until_a_person_confirmed_each(colour_folder):
    (colour_folder / "red" / "00.jpg").rename(colour_folder / "blue" / "wrong.jpg")
    proposals = opened(colour_folder, pool="not reviewed")
    assert (proposals.left, proposals.answered) == (36, 0)
    assert proposals.proposal == (proposals.annotations.images[proposals.current].label, 0.5)
    wrong = [image.path for image in proposals.annotations.images].index("blue/wrong.jpg")
    label_of = {i: image.label for i, image in enumerate(proposals.annotations.images)} | {wrong: "red"}
    accepted = 0
    while proposals.current is not None:
        label = label_of[proposals.current]
        is_right = proposals.proposal is not None and proposals.proposal[0] == label
        accepted += is_right
        proposals.press(" ") if is_right else proposals.relabel(label)
        proposals.wait(60)
    assert accepted == 35 and proposals.annotations.images[wrong].label == "red"
    assert proposals.annotations.count_reviewed() == 36
    proposals.close()


@pytest.mark.parametrize("key", ["1", "x"])
def test_a_copy_within_the_label_follows_its_original(colour_folder, key):
    shutil.copy(colour_folder / "red" / "00.jpg", colour_folder / "red" / "copy.jpg")
    proposals = opened(colour_folder, pool="not reviewed")
    before = list(proposals.annotations.images)
    pair = [i for i, image in enumerate(before) if image.path in ("red/00.jpg", "red/copy.jpg")]
    while proposals.current not in pair:
        proposals.skip()
    proposals.press(key)
    after = [proposals.annotations.images[i] for i in pair]
    assert len({image.label for image in after}) == 1
    assert all(proposals.annotations.is_changed(i) for i in pair)
    proposals.press("z")
    assert proposals.annotations.images == before
    proposals.close()


def test_after_some_answers_a_wrong_label_from_a_search_is_corrected_by_the_model(colour_folder, monkeypatch):
    monkeypatch.setattr(query_rules, "STARTING", 12)
    (colour_folder / "red" / "00.jpg").rename(colour_folder / "blue" / "wrong.jpg")
    proposals = opened(colour_folder, pool="not reviewed")
    wrong = [image.path for image in proposals.annotations.images].index("blue/wrong.jpg")
    while proposals.answered < 12:
        proposals.skip() if proposals.current == wrong else proposals.accept()
    proposals.wait(60)
    assert proposals.proposal_for(wrong)[0] == "red"
    proposals.close()


def test_another_pool_is_refused(annotations):
    with pytest.raises(ImgclfError, match="pool='all': must be one of unlabelled, not reviewed; set one"):
        Proposals(annotations, Features(np.empty((0, 8), np.float32), ()), pool="all")


def test_a_page_of_the_most_certain_is_accepted_as_it_was_shown_and_undone_at_once(proposals):
    answer_some(proposals, 9)
    page = proposals.most_certain(most=12)
    assert len(page) == 12 and len({proposals.proposal_for(i)[0] for i in page}) > 1
    shown = {i: proposals.proposal_for(i)[0] for i in page}
    answer_some(proposals, 3)
    page = [i for i in page if proposals.annotations.images[i].label == UNLABELLED]
    proposals.label_each({i: shown[i] for i in page})
    assert {i: proposals.annotations.images[i].label for i in page} == {i: shown[i] for i in page}
    proposals.press("z")
    assert {proposals.annotations.images[i].label for i in page} == {UNLABELLED}
    assert proposals.current in page


def test_a_page_of_one_label_holds_images_for_which_it_is_proposed(proposals):
    answer_some(proposals, 9)
    page = proposals.most_certain("red", most=5)
    shares = [proposals.proposal_for(i)[1] for i in page]
    assert {proposals.proposal_for(i)[0] for i in page} == {"red"} and shares == sorted(shares, reverse=True)


def test_similar_images_are_those_of_the_largest_cosine(proposals):
    known = described(proposals.annotations.dataset)
    nearest = features.nearest_neighbours(known, known.images[3], most=4)
    assert [path(proposals, i) for i in proposals.similar(3, most=4)] == [image.path for image, _ in nearest]


def test_a_cloud_of_images_gets_a_label_by_one_change(proposals):
    proposals.add_label("red")
    cloud = proposals.similar(proposals.current, most=8)
    assert "8 images: label set to 'red'" in str(proposals.label_all([*cloud], "red"))
    proposals.wait(60)
    assert proposals.answered == 9
    proposals.press("z")
    assert proposals.answered == 1 and proposals.current in cloud


def test_the_curve_of_accuracy_is_the_same_after_a_restart(proposals, folder):
    answer_some(proposals, 36, waiting=False)
    proposals.wait(60)
    curve = proposals.accuracy()
    assert [found.labels for found in curve][:2] == [20, 22] and all(found.low > 0.5 for found in curve)
    assert str(curve[0]).startswith("20 labels: accuracy ") and "random images" in str(curve[0])
    again = opened(folder)
    again.wait(60)
    assert again.accuracy() == curve
    again.close()


def test_points_of_the_curve_go_with_the_labels_that_are_undone(proposals):
    answer_some(proposals, 22, waiting=False)
    proposals.wait(60)
    assert [found.labels for found in proposals.accuracy()] == [20, 22]
    proposals.press("z")
    proposals.wait(60)
    assert [found.labels for found in proposals.accuracy()] == [20]


def test_two_hundred_labels_are_learnt_and_keys_beyond_ten_are_refused(tmp_path):
    colours = {f"c{i:03d}": tuple(hashlib.sha256(bytes([i])).digest()[:3]) for i in range(200)}
    proposals = opened(write_unlabelled(tmp_path / "many", colours, 420))
    for label in colours:
        proposals.annotations.add_label(label)
    position = {image.path: i for i, image in enumerate(proposals.annotations.images)}
    first = {position[f"unlabelled/{label}-{i:03d}.jpg"]: label for i, label in enumerate(colours)}
    proposals.annotations.relabel_each(first)
    proposals.wait(120)
    assert proposals.error is None and len(proposals.annotations.labels) == 200
    assert proposals.proposal is None or proposals.proposal[0] in proposals.annotations.labels
    assert proposals.proposal_for(next(iter(proposals.most_certain(most=1))))[1] > 1 / 200
    proposals.close()


def test_upcoming_images_hold_the_next_one(proposals):
    answer_some(proposals, 8)
    upcoming = proposals.upcoming(12)
    answer(proposals)
    assert proposals.current in upcoming


def test_features_of_unlabelled_images_are_computed_once_by_the_network_of_02(folder):
    scanned = scan.scan_folder("colours", folder)
    done = []
    assert len(described(scanned).images) == COUNT
    assert features_of(scanned, progress=done.append).matrix.shape == (COUNT, 8) and done == []
    network = files.proc_dir("colours") / files.FIXED_NETWORK
    cache = features.Cache.for_network("colours", network)
    assert list(features.missing(scanned.files, cache)) == []
