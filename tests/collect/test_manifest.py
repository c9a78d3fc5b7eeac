import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclf import ImgclfError
from imgclf.collect import manifest
from imgclf.collect.manifest import Entry
from support.project import ROOT

TUTORIAL_LIST = ROOT.parent / "shared" / "data" / "fashionTextureUrls.tsv"
HASH = "0123456789abcdef" * 4
HEADER = "label\tsource\tsha256\tbytes\tsplit\n"


def read(tmp_path, content):
    path = tmp_path / "fruit.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return manifest.read(path)


def names(*sources, label="apple"):
    return [entry.file_name for entry in manifest.with_names(Entry(label, source) for source in sources)]


def test_header_names_the_columns_in_any_order_and_others_are_ignored(tmp_path):
    entries = read(
        tmp_path,
        f"split\tnote\turl\tLabel\tbytes\tsha256\ntest\tgood\thttp://a/x.png\tapple\t7\t{HASH.upper()}\n",
    )
    assert entries == [Entry("apple", "http://a/x.png", HASH, 7, "test", "x.png")]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text + "\n\n",
    ],
)
def test_line_ends_byte_order_mark_and_blank_lines_make_no_difference(tmp_path, change):
    entries = read(tmp_path, change("label\tsource\napple\thttp://a/1.jpg\npear\tdemo://2\n"))
    assert entries == [
        Entry("apple", "http://a/1.jpg", file_name="1.jpg"),
        Entry("pear", "demo://2", file_name="2"),
    ]


def test_list_without_header_has_the_tutorials_names(tmp_path):
    entries = read(tmp_path, "".join(f"apple\thttp://a/{i}.png\n" for i in range(5)))
    # random.seed(0); order = [0, 1, 2, 3, 4]; random.shuffle(order) gives [2, 1, 0, 4, 3]
    assert [entry.file_name for entry in entries] == ["2.jpg", "1.jpg", "0.jpg", "4.jpg", "3.jpg"]
    assert [entry.source[-5:] for entry in entries] == ["0.png", "1.png", "2.png", "3.png", "4.png"]


def test_the_tutorials_own_list_keeps_the_published_file_names():
    if not TUTORIAL_LIST.exists():
        pytest.skip("the tutorial's list is not beside the repository")
    entries = manifest.read(TUTORIAL_LIST)
    labels = {entry.file_name: entry.label for entry in entries}
    assert len(labels) == len(entries) == 428
    counts = {label: list(labels.values()).count(label) for label in labels.values()}
    assert counts == {"dotted": 125, "leopard": 112, "striped": 191}
    assert [labels[f"{k}.jpg"] for k in (12, 49, 87, 191, 105, 141)] == ["dotted"] * 4 + ["striped"] * 2


def test_clothing_is_found_and_complete():
    entries = manifest.read(manifest.find("clothing"))
    assert len(entries) == len({(entry.label, entry.stem) for entry in entries}) == 3781
    assert [sum(entry.split == split for entry in entries) for split in manifest.SPLITS] == [
        3068,
        341,
        372,
        0,
    ]
    assert all(entry.bytes and entry.sha256 for entry in entries)


@pytest.mark.parametrize("name", ["no_such_data_set", "../data_manifest/clothing", "", "a\0b"])
def test_other_names_have_no_manifest(name):
    assert manifest.find(name) is None


@pytest.mark.parametrize(
    "source, name",
    [
        ("https://a/b/red%20apple.JPG?size=3#top", "red apple.JPG"),
        ("https://a/b/photo.v2", "photo.v2"),
        ("https://a/?id=3", "image"),
        ("https://a/..%2f..%2fetc%2fpasswd", "_.._etc_passwd"),
        ("https://a/.hidden.png", "hidden.png"),
        ("https://a/con.jpg", "_con.jpg"),
        ("https://a/a%3Ab%00.png", "a_b_.png"),
        ("https://a/%2e%2e", "image"),
        ("https://a/" + "x" * 300 + ".png", "x" * 120 + ".png"),
        ("https://a/%E2%80%AEgpj.exe.png", "_gpj.exe.png"),
        ("demo:dotted/7.jpg", "7.jpg"),
        ("demo://dotted", "dotted"),
    ],
)
def test_names_are_safe_on_every_file_system(source, name):
    assert names(source) == [name]


def test_names_are_unique_within_a_label_and_appended_lines_rename_nothing():
    sources = ["http://a/x.jpg", "http://b/X.png", "http://a/x-2.jpg", "http://c/x.jpg"]
    assert names(*sources) == ["x.jpg", "X-2.png", "x-2-2.jpg", "x-3.jpg"]
    assert names(*sources)[:2] == names(*sources[:2])


@given(st.lists(st.sampled_from(["a", "A", "a-2", "a-2-2", "a-3"]), max_size=12), st.booleans())
def test_no_two_images_of_a_label_share_a_file_name(parts, has_own):
    entries = [Entry("x", f"http://a/{part}.jpg") for part in parts]
    if has_own:
        entries.append(Entry("x", "http://a/b", file_name="a-2.png"))
    named = manifest.with_names(entries)
    assert len({entry.stem.casefold() for entry in named}) == len(named)
    assert manifest.with_names(named) == named


LABELS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=8)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20)
ENTRIES = st.builds(
    Entry,
    LABELS,
    st.builds("http://a/{}".format, TEXTS.map(str.strip)),
    st.sampled_from(["", HASH]),
    st.integers(0, 10**9),
    st.sampled_from(manifest.SPLITS),
    st.sampled_from(["", "", "own.jpg"]),
)


@settings(deadline=None)  # it writes to a disk
@given(st.lists(ENTRIES, min_size=1, max_size=8))
def test_written_entries_are_read_back(tmp_path_factory, entries):
    path = tmp_path_factory.getbasetemp() / "round.tsv"
    try:
        manifest.write(path, entries)
    except ImgclfError as error:  # a label that names no folder, or a name that is taken
        assert re.search("label|file_name", str(error))
    else:
        assert manifest.read(path) == manifest.with_names(entries)


def test_tutorial_names_survive_writing(tmp_path):
    entries = read(tmp_path, "apple\thttp://a/x.png\npear\thttp://a/x.png\n")
    manifest.write(tmp_path / "copy.tsv", entries)
    assert manifest.read(tmp_path / "copy.tsv") == entries
    assert (tmp_path / "copy.tsv").read_text().splitlines()[0].endswith("split\tfile_name")


@pytest.mark.parametrize(
    "entry, message",
    [
        (Entry("a\tb", "http://a/x"), "6 columns instead of 5"),
        (Entry("a/b", "http://a/x"), "has a slash"),
        (Entry("a", "http://a/x "), "read back as another entry; remove whitespace"),
    ],
)
def test_entries_that_would_not_be_read_back_are_not_written(tmp_path, entry, message):
    with pytest.raises(ImgclfError, match=message):
        manifest.write(tmp_path / "new.tsv", [entry])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "label, message",
    [
        ("", "is empty; write"),
        ("a/b", "has a slash"),
        ("a\\b", "has a slash"),
        (".", "begins with a dot"),
        ("..", "begins with a dot"),
        (".git", "begins with a dot"),
        ("Unlabelled", "without a label"),
        ("a\x07", "has a control character; remove"),
        ("a:b", "folder on every system"),
        ("apple ", "folder on every system"),
        ("NUL", "folder on every system"),
        ("x" * 81, "more than 80 characters; shorten"),
    ],
)
def test_label_that_is_not_a_valid_folder_name_is_rejected(tmp_path, label, message):
    with pytest.raises(ImgclfError, match=f"^fruit.tsv, line 3: label .*{message}"):
        read(tmp_path, f"label\tsource\napple\thttp://a/1\n{label}\thttp://a/2\n")


@pytest.mark.parametrize(
    "line, message",
    [
        ("apple\tfolder:../x.jpg\t\t\t", "does not stay below its folder; write folder:NAME"),
        ("apple\tfolder:/etc/passwd\t\t\t", "does not stay below its folder"),
        ("apple\tfolder:a/%2e%2e/x.jpg\t\t\t", "does not stay below its folder"),
        ("apple\thttp://a/1", "2 columns instead of 5 .label, source, sha256, bytes, split.; put"),
        ("apple\t\t\t\t", "the source is empty; write"),
        ("apple\thttp://a/1\tabc\t\t", "sha256 'abc' is not 64 hexadecimal digits; correct"),
        ("apple\thttp://a/1\t\tmany\t", "bytes 'many' is not a whole number; correct"),
        ("apple\thttp://a/1\t\t-1\t", "bytes '-1' is not a whole number"),
        ("apple\thttp://a/1\t\t\tholdout", "split 'holdout' is not one of train, validation, test; correct"),
        (
            "apple\tftp://a/1\t\t\t",
            "'ftp://a/1' does not begin with http://, https://, demo: or folder:; correct",
        ),
        ("apple\tfile:///etc/passwd\t\t\t", "does not begin with http"),
        ("apple\thttp:///1\t\t\t", "has no host name; write"),
        ("apple\thttp://[a/1\t\t\t", "is not a valid URL; correct"),
        ("apple\thttp://a/\x01\t\t\t", "has a control character; remove"),
        ("Pear\thttp://a/1\t\t\t", "label 'Pear' differs from 'pear' in case only, .*; write both alike"),
    ],
)
def test_invalid_line_is_reported_with_what_to_do(tmp_path, line, message):
    with pytest.raises(ImgclfError, match=f"^fruit.tsv, line 3: .*{message}"):
        read(tmp_path, f"{HEADER}pear\thttp://a/1\t\t\t\n{line}\n")


@pytest.mark.parametrize(
    "name, message",
    [("../x.jpg", "is not valid on"), (".x", "is not valid on"), ("a#.jpg", "is taken within")],
)
def test_unsafe_or_taken_file_name_is_rejected(tmp_path, name, message):
    with pytest.raises(ImgclfError, match=f"line 3: file_name {re.escape(repr(name))} {message}"):
        read(tmp_path, f"label\tsource\tfile_name\napple\thttp://a/1\ta#.png\napple\thttp://a/1\t{name}\n")


def test_errors_are_counted_and_three_shown(tmp_path):
    lines = [f"apple\tftp://a/{i}\n" for i in range(5)]
    with pytest.raises(
        ImgclfError,
        match="^fruit.tsv has 5 invalid lines: line 1: .* / line 2: .* / line 3: [^/]*//a/2.* / and 2 more$",
    ):
        read(tmp_path, "".join(lines))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "fruit.tsv lists no images; write a line"),
        (b"\n\n", "lists no images"),
        (HEADER, "lists no images"),
        (b"label\tsource\nb\xfcffel\thttp://a/1\n", "fruit.tsv, line 2: not UTF-8; save the file as UTF-8"),
    ],
)
def test_file_without_readable_lines_is_rejected(tmp_path, content, message):
    with pytest.raises(ImgclfError, match=message):
        read(tmp_path, content)


def test_missing_manifest_is_named(tmp_path):
    with pytest.raises(ImgclfError, match="none.tsv: No such file .*; check that it exists"):
        manifest.read(tmp_path / "none.tsv")


def test_nothing_is_fetched_for_a_folder_used_as_it_is(data_dir):
    (data_dir / "images" / "fruit").mkdir(parents=True)
    assert manifest.entries_of("fruit") == []
    assert (
        manifest.entries_of("clothing", images_dir="elsewhere")
        == manifest.entries_of("vegetables", images_dir="elsewhere")
        == []
    )


def test_a_name_with_a_manifest_needs_no_folder():
    assert len(manifest.entries_of("clothing")) == 3781


def test_a_name_with_neither_manifest_nor_folder_is_rejected(data_dir):
    with pytest.raises(ImgclfError) as refused:
        manifest.entries_of("clothign")
    assert re.fullmatch(
        rf"dataset_name='clothign': neither a manifest \(clothing, .*\) nor a folder {data_dir}/images/clothign "
        r"\(did you mean clothing\?\); correct the name, or make the folder",
        str(refused.value),
    )


ORIGIN = {
    "licence": "CC BY 2.0",
    "author": "Ann",
    "title": "A pear",
    "page": "https://a.org/1",
    "query": "red pear | pear",
}


def test_origin_of_an_image_survives_the_round_trip(tmp_path):
    entries = manifest.with_names(
        [Entry("apple", "http://a/1.jpg", **ORIGIN), Entry("pear", "http://a/2.jpg")]
    )
    manifest.write(tmp_path / "fruit.tsv", entries)
    assert manifest.read(tmp_path / "fruit.tsv") == entries


def test_a_manifest_without_origins_is_written_as_before(tmp_path):
    manifest.write(tmp_path / "fruit.tsv", [Entry("apple", "http://a/1.jpg")])
    assert (tmp_path / "fruit.tsv").read_text() == HEADER + "apple\thttp://a/1.jpg\t\t\t\n"


def test_control_characters_of_an_author_become_spaces(tmp_path):
    [entry] = read(tmp_path, "label\tsource\tauthor\napple\thttp://a/1.jpg\tAnn\x1b[31m\u202e B\x00ob\n")
    assert entry.author == "Ann [31m B ob"


def test_images_without_a_label_can_be_listed(tmp_path):
    [entry] = read(tmp_path, "label\tsource\nunlabelled\thttp://a/1.jpg\n")
    assert entry.label == "unlabelled"


def test_the_manifest_in_the_data_folder_comes_before_the_one_of_that_name_of_imgclf(data_dir):
    assert manifest.find("clothing").parent == manifest.MANIFESTS
    manifest.write(manifest.own("clothing"), [Entry("apple", "http://a/1.jpg")])
    assert manifest.find("clothing") == data_dir / "data_manifest" / "clothing.tsv"
    with pytest.raises(ImgclfError, match=r"neither a manifest \(clothing, fashion_texture\)"):
        manifest.entries_of("fruit")


@pytest.mark.parametrize("name", ["../fruit", "a/b", "a\\b", "a\0b"])
def test_a_name_that_is_a_path_has_no_manifest(data_dir, name):
    (data_dir / "data_manifest").mkdir(parents=True)
    (data_dir / "fruit.tsv").write_text("label\tsource\napple\thttp://a/1.jpg\n")
    assert manifest.find(name) is None
