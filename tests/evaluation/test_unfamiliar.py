"""The promised share of test images is called unfamiliar; of a label never seen, those unlike all others are."""

import json
from dataclasses import replace

import numpy as np
import pytest

from imgclf import files, svm
from imgclf.classifier import familiarity
from imgclf.classifier.model import Classifier
from imgclf.data import dataset, scan, split
from imgclf.data.dataset import Image
from imgclf.evaluation import intervals, unfamiliar
from imgclf.features import Features
from imgclf.images import decoding
from support.classifiers import trained, trained_as
from support.evaluations import by_hand
from support.pictures import picture


def described(counts: dict[str, int], *, seed: int = 0) -> Features:
    """Clouds on the unit axes; "near" is close to "a", "far" on an axis of its own."""
    centres = {name: np.eye(40)[axis] * 5 for axis, name in enumerate(("a", "b", "c", "far"))}
    centres["near"] = centres["a"] + centres["b"] * 0.2
    draws = np.random.default_rng(seed)
    labels = [label for label, count in counts.items() for _ in range(count)]
    matrix = np.stack([centres[label] for label in labels]) + draws.normal(0, 0.6, (len(labels), 40))
    images = (Image(f"{label}/{i}.jpg", label, str(i), "", 8, 8) for i, label in enumerate(labels))
    return Features(matrix.astype(np.float32), tuple(images))


def left_out(some: Features, **settings) -> dict[str, unfamiliar.LeftOut]:
    clusters = settings.pop("clusters", np.arange(len(some.images)))
    return {one.label: one for one in unfamiliar.leave_each_out(some, clusters, **settings)}


def test_a_label_unlike_all_others_is_caught_and_a_near_relative_is_not():
    found = left_out(described({"a": 150, "b": 150, "c": 150, "far": 100, "near": 100}))
    assert found["far"].unfamiliar.value > 0.9 and found["near"].unfamiliar.value < 0.5
    assert found["near"].taken_for == "a" and found["near"].share > 0.9
    assert {*list(found)[-2:]} == {"a", "near"} and found["far"].unfamiliar.images == 100
    low, high = found["far"].unfamiliar.interval
    assert low < found["far"].unfamiliar.value <= high


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_images_like_the_others_are_called_unfamiliar_at_the_rate(rate):
    """The label "twin" is drawn as "a" is: what is called unfamiliar of it is a false alarm."""
    shares = []
    for seed in range(4):
        some = described({"a": 400, "b": 200, "c": 200}, seed=seed)
        twin = (
            replace(each, label="twin") if each.label == "a" and i % 2 else each
            for i, each in enumerate(some.images)
        )
        found = left_out(Features(some.matrix, tuple(twin)), rate=rate)
        shares.append(found["twin"].unfamiliar.value)
    assert np.mean(shares) == pytest.approx(rate, abs=0.04)


def test_near_duplicates_under_another_label_do_not_count():
    some = described({"a": 60, "b": 60, "c": 60})
    clusters = np.arange(180)
    clusters[60:70] = clusters[:10]
    found = left_out(some, clusters=clusters)
    assert [found[label].unfamiliar.images for label in "abc"] == [50, 50, 60]


def test_copies_of_an_image_are_not_its_nearest_image_and_widen_the_interval():
    """Compared with its copies, every ordinary image would be familiar, and most of "near" would not."""
    some = described({"a": 40, "b": 40, "near": 40})
    four = Features(np.repeat(some.matrix, 4, axis=0), tuple(each for each in some.images for _ in range(4)))
    apart, together = left_out(four)["near"], left_out(four, clusters=np.arange(480) // 4)["near"]
    assert apart.unfamiliar.value > 0.5 > together.unfamiliar.value and together.unfamiliar.images == 160
    low, high = together.unfamiliar.interval
    independent = intervals.proportion(together.unfamiliar.value, 160)
    assert high - low > 1.3 * (independent[1] - independent[0])


@pytest.mark.parametrize("counts", [{"a": 50, "b": 50}, {"a": 4, "b": 4, "c": 4}])
def test_two_labels_or_too_few_images_have_no_result(counts):
    assert left_out(described(counts)) == {}


def test_images_of_none_of_the_labels_stay_in_the_training():
    some = described({"a": 50, "b": 50, "c": 50})
    images = (replace(each, label="none_of_these") if each.label == "c" else each for each in some.images)
    assert set(left_out(Features(some.matrix, tuple(images)))) == {"a", "b"}


def test_of_many_images_and_labels_some_are_used(monkeypatch):
    monkeypatch.setattr(unfamiliar, "MOST_IMAGES", 200)
    monkeypatch.setattr(unfamiliar, "MOST_LABELS", 2)
    seen = []
    found = left_out(
        described({"a": 300, "b": 300, "c": 100}), progress=lambda done, total: seen.append((done, total))
    )
    assert set(found) == {"a", "b"} and seen == [(0, 2), (1, 2), (2, 2)]
    assert sum(one.unfamiliar.images for one in found.values()) < 200


def test_of_very_many_labels_only_the_images_of_the_largest_are_trained_on(monkeypatch):
    monkeypatch.setattr(unfamiliar, "MOST_TRAINED", 3)
    train, trained_on = svm.train, []

    def watched(matrix, labels, *given, **options):
        trained_on.extend(labels)
        return train(matrix, labels, *given, **options)

    monkeypatch.setattr(svm, "train", watched)
    some = described({"a": 60, "b": 60, "c": 60, "far": 50, "near": 50})
    assert set(left_out(some)) == {"a", "b", "c"} and {*trained_on} == {"a", "b", "c"}
    assert unfamiliar._note(some, {"a", "b"}) == (
        "each of the 3 labels with most images left out of 180 training images of the 3 labels with most "
        "images; no result for c: too few images that are no near-duplicates"
    )


def test_the_note_counts_what_was_left_out_and_what_has_no_result(monkeypatch):
    some = described({"a": 60, "b": 60, "c": 60, "far": 50, "near": 50})
    assert unfamiliar._note(some, {*"abc", "far", "near"}) == "each label left out of 280 training images"
    assert "; no result for 4 of these labels: too few" in unfamiliar._note(some, {"a"})
    monkeypatch.setattr(unfamiliar, "MOST_LABELS", 2)
    assert unfamiliar._note(some, {"a", "b"}) == (
        "each of the 2 labels with most images left out of 280 training images"
    )


@pytest.fixture
def classifier(tiny_network, colour_folder):
    return Classifier.load(trained(tiny_network, colour_folder))


def with_familiarity(values: list[float], **changes):
    return replace(by_hand(), familiarity=np.array(values, np.float32), **changes)


def test_the_share_of_test_images_is_beside_the_promise(classifier):
    classifier.familiar_from = 0.5
    figures = unfamiliar.alarms(with_familiarity([0.4, *[0.9] * 9]), classifier)
    assert figures["unfamiliar"] == pytest.approx(0.1) and figures["unfamiliar_rate"] == 0.1
    assert figures["unfamiliar_interval"] == pytest.approx([0.0025, 0.445], abs=1e-3)
    text = unfamiliar.alarms_in_words({"familiarity": figures, "images": 10})
    assert text == (
        "1 of 10 test images are called unfamiliar: 10.0% (0.3% to 44.5%); expected were 10.0%, "
        "which is within the interval"
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [([0.4] * 9 + [0.9], "which is less: something about"), ([0.9] * 10, "which is within the interval")],
)
def test_a_broken_promise_is_said(classifier, values, says):
    classifier.familiar_from = 0.5
    figures = unfamiliar.alarms(with_familiarity(values), classifier)
    assert says in unfamiliar.alarms_in_words({"familiarity": figures, "images": 10})
    on_training = {"familiarity": figures, "images": 10, "evaluated_on": "train"}
    assert "these are TRAINING IMAGES" in unfamiliar.alarms_in_words(on_training)


def test_more_was_promised_than_found_is_said():
    figures = {"unfamiliar": 0.01, "unfamiliar_interval": [0.0, 0.03], "unfamiliar_rate": 0.05}
    assert "which is more: these test images" in unfamiliar.alarms_in_words(
        {"familiarity": figures, "images": 500}
    )


@pytest.mark.parametrize("held_out", [40, 100, 340])
def test_a_threshold_chosen_on_few_images_gives_few_wrong_alarms(classifier, held_out):
    """Familiarities of held-out and test images are drawn alike."""
    classifier.metadata["familiarity"] |= {"unfamiliar_rate": 0.05, "held_out_images": held_out}
    draws = np.random.default_rng(0)
    tested, said = by_hand(["a"] * 341, ["a"] * 341), []
    for _ in range(1000):
        classifier.familiar_from = familiarity.threshold(draws.random(held_out), 0.05)
        some = replace(tested, familiarity=draws.random(341).astype(np.float32))
        figures = json.loads(json.dumps(unfamiliar.alarms(some, classifier)))
        said.append(unfamiliar.alarms_in_words({"familiarity": figures, "images": 341}))
    for alarm in ("which is less", "which is more"):
        assert np.mean([alarm in text for text in said]) < 0.032
    assert any(f"with a threshold chosen on {held_out} held-out images" in text for text in said)


def test_an_alarm_takes_more_images_in_clusters(classifier):
    classifier.familiar_from = 0.5
    alone = with_familiarity([0.4] * 5 + [0.9] * 5)
    together = replace(alone, cluster=tuple("aaaaabbbbb"))
    says = [
        unfamiliar.alarms_in_words({"familiarity": unfamiliar.alarms(each, classifier), "images": 10})
        for each in (alone, together)
    ]
    assert "which is less" in says[0] and "which is less" not in says[1]


def test_images_of_one_cluster_widen_the_interval(classifier):
    classifier.familiar_from = 0.5
    alone = with_familiarity([0.4] * 4 + [0.9] * 6)
    together = replace(alone, cluster=tuple("aaaabbbccc"))
    (low, high), (lower, higher) = (
        unfamiliar.alarms(each, classifier)["unfamiliar_interval"] for each in (alone, together)
    )
    assert lower < low and higher > high


def test_without_familiarity_a_sentence_stands_in_place_of_figures(classifier):
    assert unfamiliar.alarms(by_hand(), classifier) is None  # scores of an older version
    classifier.familiar_from = None
    assert unfamiliar.alarms(with_familiarity([0.9] * 10), classifier) is None
    for figures in ({}, {"familiarity": None}):
        assert "no image is called unfamiliar" in unfamiliar.alarms_in_words(figures)
    assert len(unfamiliar.least_familiar(by_hand())) == 0


def test_the_least_familiar_images_come_first_and_those_without_a_value_are_left_out():
    some = with_familiarity([0.9, 0.2, np.nan, 0.5, *[0.8] * 6])
    rows = unfamiliar.least_familiar(some, most=3)
    assert rows.tolist() == [1, 3, 4]
    assert unfamiliar.captions(some, rows) == ["a\n0.200", "a\n0.500", "b\n0.800"]


def write(folder, count, *, colour=(220, 210, 40), seed=900):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i}.jpg").write_bytes(decoding.jpeg(picture(colour, seed=seed + i)))


def test_images_of_other_things_are_scored_and_the_missed_ones_are_named(classifier, colour_folder):
    write(colour_folder / "unfamiliar" / "toys", 5)
    (colour_folder / "unfamiliar" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (colour_folder / "unfamiliar" / "notes.txt").write_text("no image")
    found = scan.scan_folder("colours", colour_folder)
    familiarity = [one.familiarity for one in unfamiliar.other_things(found, classifier).images]
    classifier.familiar_from = float(np.sort(familiarity)[2])  # two are below
    seen = []
    others = unfamiliar.other_things(
        found, classifier, progress=lambda done, total: seen.append((done, total))
    )
    assert others.caught.sum() == 2 and others.unreadable == 1 and seen[-1] == (6, 6)
    assert str(others).startswith(
        "of the images of other things in unfamiliar/, 40% (5% to 85%, 5 images) are caught; 3"
    )
    assert str(others).endswith("1 cannot be read")
    values = [one.familiarity for one in others.missed]
    assert values == sorted(values, reverse=True) and min(values) >= classifier.familiar_from
    assert others.captions[0] == f"{others.missed[0].label}\n{values[0]:.2f}"


def test_without_images_of_other_things_a_sentence_says_where_to_put_them(classifier, colour_folder):
    (colour_folder / "unfamiliar").mkdir()
    others = unfamiliar.other_things(scan.scan_folder("colours", colour_folder), classifier)
    assert not others.missed and "put some into a folder unfamiliar/ beside the labels" in str(others)


@pytest.mark.parametrize("kind", ["svm", "svm_dnn_refined"])
def test_each_kind_of_classifier_leaves_labels_out_of_the_pretrained_features(kind, colour_folder):
    path = trained_as(kind, colour_folder)
    found = dataset.read("colours", str(colour_folder))
    parts = split.read(found)
    with Classifier.load(path) as loaded:
        loaded.familiar_from = loaded.familiar_from or 0.5
        result = unfamiliar.left_out_labels(found, parts, loaded, kind)
        assert {one.label for one in result.results} == set(found.labels)
        assert ("since the fine-tuned one was trained with the label" in result.note) is (kind != "svm")
        table = result.frame()
        assert list(table.columns) == [
            "images",
            "unfamiliar",
            "95 % interval",
            "unsure",
            "most are taken for",
        ]
        loaded.familiar_from = None
        nothing = unfamiliar.left_out_labels(found, parts, loaded, kind)
        assert nothing.frame() is None and "no image is called unfamiliar" in nothing.note
        loaded.familiar_from = 0.5
        (path.parent / files.TRIAL_RECORD).write_text("{}")
        assert "not measured in a trial" in unfamiliar.left_out_labels(found, parts, loaded, kind).note
