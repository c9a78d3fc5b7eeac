import hashlib
import json
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations
from imgclf.data import scan, split, test_list
from imgclf.data.dataset import Dataset, DuplicatePair, Image
from imgclf.data.layout import Layout

NOWHERE = Path("a folder without a list of test images")


def image(path, *, content=""):
    """An image as `scan_folder` returns it; its content is its path unless given."""
    label, *groups = path.split("/")[:-1]
    return Image(
        path,
        label,
        hashlib.sha256((content or path).encode()).hexdigest(),
        "",
        10,
        10,
        group="/".join(groups),
    )


def dataset(*paths, duplicates=(), folder=NOWHERE):
    """A data set of images that exist only in name; `duplicates` are pairs of paths."""
    images = {path: image(path) for path in paths}
    return Dataset(
        "fruit",
        folder,
        tuple(images.values()),
        tuple(DuplicatePair(images[a], images[b]) for a, b in duplicates),
    )


def with_excluded(found, *paths, width=10):
    """The data set with these files excluded."""
    return replace(
        found,
        files=tuple(
            replace(i, excluded="a reason", width=width) if i.path in paths else i for i in found.files
        ),
    )


def many(label, count):
    return [f"{label}/{i:03d}.jpg" for i in range(count)]


def paths_of(parts):
    return {i.path for i in parts.train}, {i.path for i in parts.test}


@some.composite
def datasets(draw):
    """One to four labels of 1 to 30 images, some in groups, some of them near-duplicates within their label."""
    paths = [
        path
        for label in "abcd"[: draw(some.integers(1, 4))]
        for path in (
            f"{label}/{draw(some.sampled_from(['', 'g1/', 'g2/']))}{i}.jpg"
            for i in range(draw(some.integers(1, 30)))
        )
    ]
    pairs = draw(some.lists(some.tuples(some.sampled_from(paths), some.sampled_from(paths)), max_size=8))
    return dataset(*paths, duplicates=[(a, b) for a, b in pairs if a != b and a[0] == b[0]])


def split_or_skip(found, fraction, way, seed):
    """A split; drawn data sets in which a label would have no training images are skipped."""
    try:
        return split.split(found, train_fraction=fraction, split_by=way, seed=seed)
    except ImgclfError as error:
        assume("would be in the training set" not in str(error))
        raise


fractions, seeds, ways = some.floats(0.05, 0.95), some.integers(0, 5), some.sampled_from(["image", "group"])
checked = settings(max_examples=60, deadline=None)


@checked
@given(datasets(), fractions, seeds, ways)
def test_every_image_is_in_exactly_one_set(found, fraction, seed, way):
    parts = split_or_skip(found, fraction, way, seed)
    assert sorted(parts.train + parts.test, key=lambda i: i.path) == sorted(
        found.images, key=lambda i: i.path
    )
    assert split.overlap(parts) == 0 and parts.excluded == ()


@checked
@given(datasets(), fractions, seeds, ways)
def test_duplicates_stay_together_and_so_do_groups_with_split_by_group(found, fraction, seed, way):
    parts = split_or_skip(found, fraction, way, seed)
    train, _ = paths_of(parts)
    assert all(
        (pair.kept.path in train) == (pair.other.path in train)
        for pair in found.duplicates
        if pair.kept.label not in parts.divided
    )
    groups = {(i.group, i.path in train) for i in found.images if i.group}
    assert way == "image" or not any((group, not is_train) in groups for group, is_train in groups)


@checked
@given(datasets(), fractions, seeds, ways, some.randoms())
def test_split_does_not_depend_on_the_order_of_the_images(found, fraction, seed, way, random):
    shuffled = replace(
        found, files=tuple(random.sample(found.files, len(found.files))), duplicates=found.duplicates[::-1]
    )
    assert paths_of(split_or_skip(shuffled, fraction, way, seed)) == paths_of(
        split_or_skip(found, fraction, way, seed)
    )


@checked
@given(datasets(), fractions, seeds, ways)
def test_label_with_two_clusters_of_its_own_has_images_in_both_sets(found, fraction, seed, way):
    parts = split_or_skip(found, fraction, way, seed)
    labels_of = {
        name: {i.label for i in found.images if parts.cluster[i.path] == name}
        for name in parts.cluster.values()
    }
    for label in set(found.labels) - {
        label for labels in labels_of.values() if len(labels) > 1 for label in labels
    }:
        clusters = {parts.cluster[i.path] for i in found.images if i.label == label}
        assert label in {i.label for i in parts.train}
        assert (label in {i.label for i in parts.test}) == (len(clusters) > 1)


@checked
@given(some.integers(2, 200), fractions, seeds)
def test_training_count_is_the_nearest_to_the_fraction(count, fraction, seed):
    parts = split.split(dataset(*many("a", count)), train_fraction=fraction, seed=seed)
    nearest = min(max(fraction * count, 1), count - 1)
    assert abs(len(parts.train) - nearest) <= 0.5 + 1e-9


@checked
@given(some.integers(20, 100), seeds)
def test_one_more_image_moves_at_most_one_other(count, seed):
    before, _ = paths_of(split.split(dataset(*many("a", count)), seed=seed))
    after, _ = paths_of(split.split(dataset(*many("a", count), "a/new.jpg"), seed=seed))
    assert len(before ^ (after - {"a/new.jpg"})) <= 1


def test_other_seeds_make_other_splits():
    found = dataset(*many("a", 20), *many("b", 20))
    assert len({frozenset(paths_of(split.split(found, seed=seed))[0]) for seed in range(20)}) == 20


def test_split_depends_on_content_and_not_on_names():
    def chosen(name):
        found = replace(dataset(), files=tuple(image(f"a/{name}{i}.jpg", content=str(i)) for i in range(12)))
        return {i.sha256 for i in split.split(found).train}

    assert chosen("x") == chosen("another name ")


def test_split_is_the_same_on_every_computer():
    parts = split.split(dataset(*many("a", 8)))
    assert [i.path for i in parts.test] == ["a/004.jpg", "a/007.jpg"]


def test_duplicates_with_two_labels_are_in_one_set():
    found = dataset(
        *many("a", 6), *many("b", 6), duplicates=[("a/000.jpg", "b/000.jpg"), ("b/000.jpg", "b/001.jpg")]
    )
    for seed in range(10):
        train, _ = paths_of(split.split(found, seed=seed))
        assert len({path in train for path in ("a/000.jpg", "b/000.jpg", "b/001.jpg")}) == 1


def test_group_name_used_by_two_labels_is_one_group():
    clusters = split.clusters(
        dataset("a/g/1.jpg", "a/g/2.jpg", "b/g/1.jpg", "b/3.jpg", "b/4.jpg"), split_by="group"
    )
    assert clusters["a/g/1.jpg"] == clusters["a/g/2.jpg"] == clusters["b/g/1.jpg"]
    assert len(set(clusters.values())) == 3


def test_group_with_two_labels_is_in_one_set():
    found = dataset(*many("a", 6), *many("b", 6), *many("a/film", 2), *many("b/film", 2))
    for seed in range(10):
        train, _ = paths_of(split.split(found, split_by="group", seed=seed))
        assert len({path in train for path in (*many("a/film", 2), *many("b/film", 2))}) == 1


def test_duplicates_of_an_excluded_image_are_in_one_cluster():
    found = with_excluded(
        dataset(
            *many("a", 3), *many("b", 3), duplicates=[("a/000.jpg", "a/001.jpg"), ("a/001.jpg", "b/000.jpg")]
        ),
        "a/001.jpg",
    )
    clusters = split.clusters(found)
    assert clusters["a/000.jpg"] == clusters["a/001.jpg"] == clusters["b/000.jpg"]
    assert len(set(clusters.values())) == 4


def test_cluster_is_named_by_its_smallest_sha256():
    found = dataset("a/1.jpg", "a/2.jpg", duplicates=[("a/1.jpg", "a/2.jpg")])
    assert set(split.clusters(found).values()) == {min(i.sha256 for i in found.images)}


def test_a_large_cluster_is_named_once_and_not_once_an_image(monkeypatch):
    calls = []
    monkeypatch.setattr(split, "min", lambda ranks: calls.append(1) or min(ranks), raising=False)
    found = dataset(*(f"{label}/{group}/{i}.jpg" for label in "ab" for group in "xyz" for i in range(50)))
    assert len(set(split.clusters(found, split_by="group").values())) == 3
    assert len(calls) == 3


def test_excluded_images_are_in_no_set():
    found = dataset(*many("a", 4))
    found = replace(found, files=(replace(found.files[0], excluded="damaged"), *found.files[1:]))
    train, test = paths_of(split.split(found))
    assert "a/000.jpg" not in train | test and len(train | test) == 3


def test_counts_are_of_each_label_in_each_set():
    counts = split.split(dataset(*many("a", 4), *many("b", 1))).counts()
    assert counts.to_dict("index") == {"a": {"train": 3, "test": 1}, "b": {"train": 1, "test": 0}}


@pytest.mark.parametrize(
    "text",
    [
        "a\t001.jpg\nb\t000.jpg\n",
        "a/001.jpg\nb/000.jpg",
        "A\t001.JPG\r\nB/000.jpg\r\n",
        "\ufeffa\t001.jpg\r\n\r\nb\\000.jpg\r\n",
    ],
    ids=["tabs", "slashes", "upper case and CRLF", "BOM, empty line and backslash"],
)
@pytest.mark.parametrize("name", test_list.NAMES)
def test_list_of_test_images_overrides_the_split(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    train, test = paths_of(split.split(dataset(*many("a", 3), *many("b", 2), folder=tmp_path)))
    assert test == {"a/001.jpg", "b/000.jpg"}
    assert train == {"a/000.jpg", "a/002.jpg", "b/001.jpg"}


def test_list_names_images_in_groups_by_their_whole_path(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a\tgroup one/2.jpg\n")
    _, test = paths_of(split.split(dataset("a/1.jpg", "a/group one/2.jpg", folder=tmp_path)))
    assert test == {"a/group one/2.jpg"}


def test_duplicate_of_a_listed_image_is_excluded_from_training(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a/000.jpg\n")
    parts = split.split(
        dataset(*many("a", 3), *many("b", 2), duplicates=[("a/000.jpg", "b/001.jpg")], folder=tmp_path)
    )
    assert [i.path for i in parts.excluded] == ["b/001.jpg"]
    assert (
        paths_of(parts) == ({"a/001.jpg", "a/002.jpg", "b/000.jpg"}, {"a/000.jpg"})
        and split.overlap(parts) == 0
    )


def test_for_a_listed_excluded_duplicate_the_kept_copy_is_in_the_test_set(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a/001.jpg\n")
    parts = split.split(
        with_excluded(
            dataset(*many("a", 3), *many("b", 2), duplicates=[("a/000.jpg", "a/001.jpg")], folder=tmp_path),
            "a/001.jpg",
        )
    )
    assert paths_of(parts) == ({"a/002.jpg", "b/000.jpg", "b/001.jpg"}, {"a/000.jpg"})
    assert (parts.excluded, parts.not_found) == ((), ())


def test_a_listed_excluded_duplicate_brings_no_image_of_another_label_into_the_test_set(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a/001.jpg\na/002.jpg\n")
    found = dataset(
        *many("a", 4),
        *many("b", 2),
        duplicates=[("a/000.jpg", "a/001.jpg"), ("a/001.jpg", "b/000.jpg")],
        folder=tmp_path,
    )
    parts = split.split(with_excluded(found, "a/001.jpg"))
    assert paths_of(parts) == ({"a/003.jpg", "b/001.jpg"}, {"a/000.jpg", "a/002.jpg"})
    assert [i.path for i in parts.excluded] == ["b/000.jpg"]


COMPOSED, APART = "gr\u00fcn", "gru\u0308n"  # as Linux and Windows write it, and as a Mac does


@pytest.mark.parametrize(
    ("listed", "files", "test"),
    [
        ("a/x.jpg", ["a/x.jpg", "a/X.jpg"], {"a/x.jpg"}),
        ("a/X.JPG", ["a/X.jpg", "a/y.jpg"], {"a/X.jpg"}),
        ("A/x.jpg", ["a/x.jpg", "a/y.jpg"], {"a/x.jpg"}),
        (f"a/{COMPOSED}.jpg", [f"a/{APART}.jpg", "a/y.jpg"], {f"a/{APART}.jpg"}),
        (f"a/{APART}.jpg", [f"a/{COMPOSED}.jpg", "a/y.jpg"], {f"a/{COMPOSED}.jpg"}),
        (f"a/{COMPOSED}.jpg", [f"a/{COMPOSED}.jpg", f"a/{APART}.jpg"], {f"a/{COMPOSED}.jpg"}),
        (f"a/{COMPOSED.upper()}.jpg", [f"a/{APART}.jpg", "a/y.jpg"], {f"a/{APART}.jpg"}),
        (f"a/{COMPOSED}.jpg", [f"a/{APART}.jpg", f"a/{COMPOSED.upper()}.jpg"], {f"a/{APART}.jpg"}),
        ("a/stra\u00dfe.jpg", ["a/STRASSE.jpg", "a/y.jpg"], {"a/STRASSE.jpg"}),
        ("a\\x.jpg", ["a/x.jpg", "a/y.jpg"], {"a/x.jpg"}),
        ("a\tx\\1.jpg", ["a/x\\1.jpg", "a/x/1.jpg"], {"a/x\\1.jpg"}),
    ],
)
def test_entry_names_the_file_written_like_it_else_the_only_one_that_differs_in_case_or_normal_form(
    tmp_path, listed, files, test
):
    (tmp_path / "dedicated_test.tsv").write_text(listed + "\n", encoding="utf-8")
    parts = split.split(dataset(*files, *many("b", 2), folder=tmp_path))
    assert (paths_of(parts)[1], parts.not_found) == (test, ())


def test_entry_that_may_mean_several_files_is_reported_with_them(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("b/000.jpg\na/x.jpg\n")
    parts = split.split(dataset("a/X.jpg", "a/x.JPG", *many("b", 2), folder=tmp_path))
    assert paths_of(parts)[1] == {"b/000.jpg"}
    assert (
        "CAREFUL: 1 dedicated test images not found, the first is a/x.jpg (it may mean a/X.jpg or a/x.JPG)"
        in str(parts)
    )


def test_labels_that_lose_a_quarter_of_their_training_images_to_the_test_list_are_named(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a/000.jpg\nb/000.jpg\n")
    found = dataset(*many("a", 9), *many("b", 9), duplicates=chain(many("a", 4)), folder=tmp_path)
    assert (
        "CAREFUL: 3 of the 8 training images of a are excluded, as duplicates of dedicated test images; "
        "near_duplicates=ignored keeps" in split.split(found).caution()
    )


def test_listed_images_that_are_missing_are_reported(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a/000.jpg\nb/gone.jpg\na/also gone.jpg\n")
    parts = split.split(dataset(*many("a", 2), *many("b", 2), folder=tmp_path))
    assert parts.not_found == ("a/also gone.jpg", "b/gone.jpg")
    assert (
        str(parts).splitlines()[1]
        == "CAREFUL: 2 dedicated test images not found, the first is a/also gone.jpg; correct the list, since under another name they are trained on"
    )


def test_a_split_reports_how_many_duplicates_it_excluded_from_training(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a/000.jpg\n")
    parts = split.split(dataset(*many("a", 3), duplicates=[("a/000.jpg", "a/001.jpg")], folder=tmp_path))
    assert (
        str(parts).splitlines()[0]
        == "1 images train, 1 test; 1 excluded from training, as duplicates of dedicated test images"
    )


@pytest.mark.parametrize(
    ("listed", "count"),
    [(["c/000.jpg"], 0), ([*many("a", 2), *many("b", 3)], 5), (many("a", 2), 2), (["a/000.jpg"], 1)],
    ids=["none", "all", "a label", "or copies of it"],
)
def test_list_that_names_no_image_or_leaves_none_of_a_label_to_train_is_refused(tmp_path, listed, count):
    (tmp_path / "dedicated_test.tsv").write_text("\n".join(listed))
    same = [image(path, content="same") for path in many("a", 2)]
    found = Dataset("fruit", tmp_path, (*same, *map(image, many("b", 3))), (DuplicatePair(*same),))
    with pytest.raises(
        ImgclfError,
        match=f"the list of dedicated test images .* names {count} of the 5 images.*; it must name some, and leave some of each label",
    ):
        split.split(found)


def test_two_lists_of_test_images_are_refused_if_they_differ(tmp_path):
    for name, text in zip(test_list.NAMES, ("a/000.jpg\n", "a/001.jpg\n"), strict=True):
        (tmp_path / name).write_text(text)
    with pytest.raises(
        ImgclfError, match=r"dedicatedTestImages\.tsv and dedicated_test\.tsv differ; keep one of them$"
    ):
        test_list.read(tmp_path)
    (tmp_path / test_list.NAMES[1]).write_text("a/000.jpg\n")
    assert test_list.read(tmp_path) == {"a/000.jpg"}


def test_list_with_a_line_of_neither_form_is_refused(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a/000.jpg\n001.jpg\n")
    with pytest.raises(
        ImgclfError,
        match=r"dedicated_test.tsv, line 2: '001.jpg' is not LABEL<TAB>FILE or LABEL/FILE; correct the line",
    ):
        split.split(dataset(*many("a", 2), folder=tmp_path))


def test_list_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_bytes("a/grün.jpg\n".encode("latin-1"))
    with pytest.raises(ImgclfError, match=r"dedicated_test.tsv: not UTF-8 text; save it as UTF-8"):
        split.split(dataset(*many("a", 2), folder=tmp_path))


@pytest.mark.parametrize(
    ("train", "test", "cluster", "count"),
    [
        (image("a/1.jpg"), image("a/2.jpg"), {"a/1.jpg": "x", "a/2.jpg": "y"}, 0),
        (image("a/1.jpg"), image("a/2.jpg"), {"a/1.jpg": "x", "a/2.jpg": "x"}, 1),
        (
            image("a/1.jpg", content="one"),
            image("a/2.jpg", content="one"),
            {"a/1.jpg": "x", "a/2.jpg": "y"},
            1,
        ),
        (image("a/1.jpg"), image("a/1.jpg"), {"a/1.jpg": "x"}, 3),
    ],
    ids=["good", "cluster", "content", "file"],
)
def test_overlap_counts_what_is_in_both_sets(train, test, cluster, count):
    assert split.overlap(split.Split((train,), (test,), cluster)) == count


def test_split_round_trip(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a/000.jpg\na/001.jpg\n")
    found = dataset(
        *many("a", 5),
        'b/a "quoted"\tname\r\n.jpg',
        "b/ü.jpg",
        duplicates=[("a/000.jpg", "b/ü.jpg")],
        folder=tmp_path,
    )
    parts = replace(split.split(found), not_found=("b/x.jpg",))
    split.write(found, parts)
    assert split.read(found) == parts


def test_missing_split_names_the_notebook():
    with pytest.raises(
        ImgclfError, match=r"no split of fruit yet \(.*split.tsv\); run 01_prepare_data first"
    ):
        split.read(dataset("a/1.jpg"))


def test_split_of_fewer_images_than_there_are_now_names_the_notebook():
    split.write(dataset(*many("a", 4)), split.split(dataset(*many("a", 4))))
    with pytest.raises(
        ImgclfError, match=r"split.tsv: 1 of the 5 images of images.tsv have no row, as a/new.jpg; "
    ):
        split.read(dataset(*many("a", 4), "a/new.jpg"))


@pytest.mark.parametrize(
    "content",
    [
        b"path\tsplit\tcluster\na/1.jpg\ttrain\tx\n",
        b"\xff\xfe\x00",
        b"path\tsplit\tcluster\na\rb\ttrain\tx\n",
    ],
    ids=["no sha256", "not text", "stray carriage return"],
)
def test_split_that_does_not_fit_the_images_names_the_notebook(content):
    split.write(dataset("a/1.jpg"), split.split(dataset("a/1.jpg"))).write_bytes(content)
    with pytest.raises(
        ImgclfError, match=r"split.tsv: does not fit images.tsv \(.*\); run 01_prepare_data again"
    ):
        split.read(dataset("a/1.jpg"))


PAIR = ("a/000.jpg", "a/001.jpg")  # near-duplicates
GROUPED = ("b/g/1.jpg", "b/g/2.jpg")


def fruit():
    """A data set with a pair of near-duplicates and a group, and other images of both labels."""
    return dataset(*many("a", 12), *many("b", 6), *GROUPED, duplicates=[PAIR])


def edited(change, *, split_by="group"):
    """Write a split of `fruit`, edit its rows, and read it: path -> [path, split, cluster, sha256]."""
    table = split.write(fruit(), split.split(fruit(), split_by=split_by, seed=1))
    header, *lines = table.read_text().splitlines()
    rows = {line.split("\t")[0]: line.split("\t") for line in lines}
    lines = ["\t".join(row) for row in change(rows) or rows.values()]
    table.write_text("\n".join([header, *lines]) + "\n")
    return split.read(fruit())


def moved(rows, *paths):
    """Put images into the other set."""
    for path in paths:
        rows[path][1] = {"train": "test", "test": "train"}[rows[path][1]]


def moved_alone(rows, path):
    """Put an image into the other set, with a cluster of its own."""
    moved(rows, path)
    rows[path][2] = "x"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda rows: [*rows.values(), rows["b/001.jpg"]], "b/001.jpg is in two rows"),
        (lambda rows: list(rows.values())[1:], "1 of the 20 images of images.tsv have no row"),
        (lambda rows: [*rows.values(), ["c/9.jpg", "test", "x", "y"]], "c/9.jpg is not among the images"),
        (lambda rows: rows["b/001.jpg"].__setitem__(1, "Test"), "b/001.jpg: split is 'Test', not one of"),
        (lambda rows: rows["b/001.jpg"].__setitem__(1, ""), "b/001.jpg: split is '', not one of"),
        (lambda rows: rows["b/001.jpg"].__setitem__(3, "0" * 64), "b/001.jpg: another sha256 than in images"),
        (lambda rows: rows["b/001.jpg"].__setitem__(1, "left out"), "b/001.jpg is left out, but is no dupl"),
        (lambda rows: moved(rows, PAIR[0]), "a/000.jpg .* and a/001.jpg .* are of one cluster"),
        (lambda rows: moved(rows, GROUPED[1]), "b/g/1.jpg .* and b/g/2.jpg .* are of one cluster"),
        (lambda rows: moved_alone(rows, PAIR[1]), "a/000.jpg and a/001.jpg are duplicates or of one group"),
        (lambda rows: moved_alone(rows, GROUPED[0]), "b/g/1.jpg and b/g/2.jpg are duplicates or of one gr"),
        (
            lambda rows: [[p, "test" if p[0] == "b" else s, *rest] for p, s, *rest in rows.values()],
            "no image of b is in the training set",
        ),
    ],
    ids=[
        "twice",
        "missing",
        "added",
        "capital",
        "no word",
        "another content",
        "a test image left out",
        "near-duplicates on both sides",
        "group on both sides",
        "near-duplicates in two clusters",
        "group in two clusters",
        "label not trained",
    ],
)
def test_an_edited_split_is_refused_with_the_image_and_what_to_do(change, fault):
    with pytest.raises(
        ImgclfError, match=rf"split\.tsv: {fault}.*; correct the row, or run 01_prepare_data again$"
    ):
        edited(change)


def test_a_split_made_by_hand_that_keeps_clusters_together_is_accepted():
    def by_hand(rows):
        moved(rows, *PAIR, *GROUPED, "a/005.jpg")
        for path in ("a/006.jpg", "a/007.jpg"):  # kept together by the person alone
            rows[path][1:3] = ["test", "one scene"]

    before = paths_of(split.split(fruit(), split_by="group", seed=1))[1]
    parts = edited(by_hand)
    changed = before ^ {*PAIR, *GROUPED, "a/005.jpg"} | {"a/006.jpg", "a/007.jpg"}
    assert paths_of(parts)[1] == changed and split.overlap(parts) == 0
    assert parts.cluster["a/006.jpg"] == parts.cluster["a/007.jpg"] == "one scene"


def test_divided_frames_are_found_in_the_data_set_and_are_not_in_split_json():
    found = dataset(*(frames := many("a", 8)), *many("b", 8), duplicates=chain(frames))
    stored = json.loads(split.write(found, split.split(found)).with_name("split.json").read_text())
    assert "divided" not in stored and split.read(found).divided == ("a",)


@pytest.mark.parametrize(
    ("name", "value"), [("split_by", "Group"), ("train_fraction", 1.5), ("seed", -1), ("split_by", None)]
)
def test_settings_that_no_split_has_are_refused(name, value):
    path = split.write(fruit(), split.split(fruit())).with_name("split.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ImgclfError, match=r"split\.json: .*; run 01_prepare_data again"):
        split.read(fruit())


@checked
@given(some.data(), fractions, seeds, ways)
def test_every_split_that_is_made_is_accepted_again(data, fraction, seed, way):
    paths = [f"{label}/{group}{i}.jpg" for label in "abc" for group in ("", "g/") for i in range(4)]
    paths = data.draw(some.lists(some.sampled_from(paths), min_size=1, unique=True))
    pairs = data.draw(some.lists(some.tuples(some.sampled_from(paths), some.sampled_from(paths)), max_size=8))
    with tempfile.TemporaryDirectory() as folder:
        listed = data.draw(some.lists(some.sampled_from(paths), max_size=3))
        (Path(folder) / test_list.NAMES[0]).write_text("\n".join(listed))
        found = dataset(*paths, duplicates=[(a, b) for a, b in pairs if a != b], folder=Path(folder))
        try:
            parts = split.split(found, train_fraction=fraction, split_by=way, seed=seed)
        except ImgclfError:
            assume(False)
        split.write(found, parts)
        read = split.read(found)
    assert (read.train, read.test, read.excluded) == (parts.train, parts.test, parts.excluded)
    assert set(read.divided) == set(parts.divided)


def test_a_label_without_training_images_is_refused(tmp_path):
    found = Dataset(
        "d",
        tmp_path,
        tuple(
            Image(path, path[0], sha256, "", 1, 1, group=group)
            for path, sha256, group in (
                ("a/0.jpg", "1", ""),
                ("b/g/0.jpg", "9", "g"),
                ("c/0.jpg", "3", ""),
                ("c/2.jpg", "4", ""),
                ("c/3.jpg", "5", ""),
                ("c/g/1.jpg", "2", "g"),
            )
        ),
    )
    refused = []
    for seed in range(20):  # the group of b and c is one of c's clusters: its set depends on the seed
        try:
            split.split(found, split_by="group", train_fraction=0.5, seed=seed)
        except ImgclfError as error:
            refused.append(str(error))
    assert 0 < len(refused) < 20
    assert all(
        "no image of b would be in the training set, since all are in clusters with test images of other labels"
        in text
        for text in refused
    )


def test_caution_names_labels_with_few_images():
    parts = split.split(dataset(*many("a", 100), *many("b", 4)))
    assert (
        parts.caution()
        == "CAREFUL: few images of b (3 train, 1 test); expect little of these labels, and of the figures about them"
    )
    assert split.split(dataset(*many("a", 100), *many("b", 100))).caution() == ""


def chain(paths):
    """Pairs that connect each picture to the next one only."""
    return list(pairwise(paths))


def test_near_duplicates_are_connected_transitively():
    found = dataset(*many("a", 6), *many("b", 2), duplicates=chain(many("a", 3)))
    assert len({split.clusters(found)[path] for path in many("a", 3)}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_frames_of_a_fixed_camera_are_divided_between_the_sets_and_the_labels_are_named(seed):
    found = dataset(
        *many("closed", 40),
        *many("open", 40),
        *many("other", 40),
        duplicates=[*chain(many("closed", 40)), *chain(many("open", 40))],
    )
    parts = split.split(found, seed=seed)
    assert parts.counts().to_dict("index") == {
        label: {"train": 30, "test": 10} for label in ("closed", "open", "other")
    }
    assert parts.divided == ("closed", "open")
    assert (
        str(parts)
        .splitlines()[1]
        .startswith(
            "CAREFUL: near-duplicates of closed, open are in both training and test set: a label has nothing else"
        )
    )
    assert len(set(parts.clusters_of(parts.train))) == 90  # so folds can divide them too


@pytest.mark.parametrize("seed", range(5))
def test_one_scene_under_two_labels_is_divided_too(seed):
    found = dataset(*many("a", 20), *many("b", 20), duplicates=chain([*many("a", 20), *many("b", 20)]))
    parts = split.split(found, seed=seed)
    assert parts.divided == ("a", "b") and parts.counts().to_numpy().min() >= 4


@pytest.mark.parametrize("seed", range(5))
def test_cluster_with_more_than_half_of_a_label_is_in_the_training_set_and_named(seed):
    found = dataset(*many("a", 40), *many("b", 40), duplicates=chain(many("a", 38)))
    parts = split.split(found, seed=seed)
    assert parts.counts().loc["a"].to_dict() == {"train": 38, "test": 2} and not parts.divided
    assert (
        "CAREFUL: 38 of the 40 images of a are near-duplicates (of one another, as frames of a fixed "
        "camera are) and stay in one set" in parts.caution()
    )


def test_a_large_group_is_said_to_be_divided_by_split_by_image_alone():
    found = dataset(*[f"a/shop/{i}.jpg" for i in range(8)], "a/0.jpg", "a/1.jpg", *many("b", 8))
    by_group = split.split(found, split_by="group").caution()
    assert "8 of the 10 images of a are one group or near-duplicates" in by_group
    assert by_group.endswith("split_by=image divides groups, and near_duplicates=ignored near-duplicates")
    assert "8 of the 10" not in split.split(found).caution()


def test_exact_copies_are_never_divided():
    same = [image(path, content="same") for path in many("a", 4)]
    found = Dataset(
        "fruit",
        NOWHERE,
        (*same, *map(image, many("b", 8))),
        tuple(DuplicatePair(*pair) for pair in pairwise(same)),
    )
    parts = split.split(found)
    assert parts.counts().loc["a"].to_dict() == {"train": 4, "test": 0} and not parts.divided


def test_groups_are_never_divided():
    found = dataset(*many("a/g", 8), *many("b", 8), duplicates=chain(many("a/g", 8)))
    parts = split.split(found, split_by="group")
    assert parts.counts().loc["a"].to_dict() == {"train": 8, "test": 0} and not parts.divided


def test_near_duplicates_of_listed_test_images_are_trained_on_where_a_label_had_no_others(tmp_path):
    (tmp_path / "dedicated_test.tsv").write_text("a/000.jpg\nb/000.jpg\n")
    found = dataset(
        *many("a", 4),
        *many("b", 4),
        duplicates=[*chain(many("a", 4)), ("b/000.jpg", "b/001.jpg")],
        folder=tmp_path,
    )
    parts = split.split(found)
    assert paths_of(parts)[0] == {*many("a", 4)[1:], *many("b", 4)[2:]}
    assert parts.divided == ("a",) and [i.path for i in parts.excluded] == ["b/001.jpg"]


def test_a_relabelled_dedicated_test_image_stays_in_the_test_set(colour_folder):
    (colour_folder / "dedicated_test.tsv").write_text("red/listed.jpg\nblue/05.jpg\n")
    (colour_folder / "red/03.jpg").rename(colour_folder / "red/listed.jpg")
    notes = Annotations(scan.scan_folder("colours", colour_folder))
    notes.relabel([[i.path for i in notes.images].index("red/listed.jpg")], "green")
    parts = split.split(notes.current_dataset())
    assert {image.path for image in parts.test} == {"green/listed.jpg", "blue/05.jpg"} and not parts.not_found


def test_caution_about_many_labels_names_some():
    images = [image for k in range(200) for image in many(f"{k:03d}", 3)]
    caution = split.split(dataset(*images)).caution()
    assert "000 (2 train, 1 test)" in caution and "and 188 more labels" in caution and len(caution) < 500


@pytest.mark.parametrize(
    ("folders", "listed", "settings", "sentence"),
    [
        (
            "",
            "a/000.jpg\n",
            {"train_fraction": 0.5},
            r"train_fraction=0.5 has no effect: the list of dedicated",
        ),
        (
            "train",
            "",
            {"train_fraction": 0.5},
            "train_fraction=0.5 has no effect: the folders train, test are",
        ),
        (
            "",
            "",
            {"split_by": "group"},
            "split_by=group has no effect: no image is in a subfolder of its label",
        ),
        ("", "a/000.jpg\n", {}, ""),
        ("train", "", {}, ""),
        ("", "", {"train_fraction": 0.5}, ""),
    ],
)
def test_a_setting_that_was_changed_in_vain_is_named(tmp_path, folders, listed, settings, sentence):
    (tmp_path / test_list.NAMES[0]).write_text(listed)
    found = dataset(*many("a", 40), *many("b", 40), folder=tmp_path)
    if folders:
        sets = ("train",) * 3 + ("test",)
        files = [
            replace(i, path=f"{sets[k % 4]}/{i.path}", sha256=i.sha256) for k, i in enumerate(found.files)
        ]
        found = replace(found, files=tuple(files), layout=Layout(("train/a",), ("train", "test"), ("test",)))
    parts = split.split(found, **settings)
    split.write(found, parts)
    for caution in (parts.caution(), split.read(found).caution()):
        assert ("has no effect" in caution) == bool(sentence) and f"CAREFUL: {sentence}" * bool(sentence) in (
            caution
        )
