"""Labels from elsewhere: files of labels in true formats and hostile ones, imported into real folders."""

import csv
import json
import os
import shutil
import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgclf import ImgclfError, cli, files
from imgclf.annotation import exchange, label_files
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.label_files import FORMATS, LabelFile, Labelled
from imgclf.data import layout, scan
from imgclf.images import decoding
from support import in_process
from support.pictures import COLOURS, picture, write_colours


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """The colours without label folders: red00.jpg, red01.jpg, ..."""
    write_colours(tmp_path / "coloured")
    folder = tmp_path / "flat"
    folder.mkdir()
    for path in (tmp_path / "coloured").glob("*/*.jpg"):
        path.rename(folder / f"{path.parent.name}{path.name}")
    return folder


def state(folder: Path) -> dict[str, tuple[str, bool]]:
    """Return for each image its label folder, and whether it is excluded."""
    listed = exchange.list_folder(folder)
    excluded = listed.journal.excluded()
    return {path: (label, path in excluded) for path, label in listed.labels.items()}


def plan_of(folder: Path, content: str | bytes | object, **options: bool) -> exchange.Plan:
    """Return what the import of a file with this content would do."""
    file = folder.parent / "labels.file"
    if isinstance(content, str | bytes):
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        file.write_text(json.dumps(content))
    return exchange.plan(exchange.list_folder(folder), label_files.read(file), **options)


def imported(folder: Path, content: str | bytes | object, **options: bool) -> exchange.Plan:
    planned = plan_of(folder, content, **options)
    exchange.carry_out(exchange.list_folder(folder), planned)
    return planned


def imgclf(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["labels", *map(str, arguments)])


# Formats


@pytest.mark.parametrize(
    "content",
    [
        "path,label\nred/03.jpg,blue\nred/04.jpg,green\n",
        "label\tpath\nblue\tred/03.jpg\ngreen\tred/04.jpg\n",
        "Image;Class\r\nred/03.jpg;blue\r\nred/04.jpg;green\r\n",
        "filename,width,category\nred\\03.jpg,64,blue\nred\\04.jpg,64,green\n",
        "red/03.jpg,blue\nred/04.jpg,green\n",
        "blue\tred/03.jpg\ngreen\tred/04.jpg\n",
        '"file name","class name"\n"red/03.jpg","blue"\n"red/04.jpg","green"\n',
        "label,score,probability,image\nblue,1.2,0.9,/elsewhere/red/03.jpg\ngreen,1,0.8,/elsewhere/red/04.jpg\n",
        "id,label\nred/03,blue\nred/04,green\n",
        "path,label\nC:\\Users\\Ann\\My images\\red\\03.jpg,BLUE\n./RED/04.JPG, Green \n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_is_read_whatever_its_header_delimiter_and_encoding(colour_folder, content, encoding):
    planned = plan_of(colour_folder, content.encode(encoding))
    assert planned.relabel == {"red/03.jpg": "blue", "red/04.jpg": "green"} and not planned.refused


COCO = {
    "info": {"description": "exported"},
    "images": [
        {"id": 7, "width": 64, "height": 48, "file_name": "red/03.jpg"},
        {"id": 8, "width": 64, "height": 48, "file_name": "red/04.jpg"},
        {"id": 9, "width": 64, "height": 48, "file_name": "red/05.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 2, "segmentation": [[1, 1, 2, 2, 3, 1]], "iscrowd": 0},
        {"id": 3, "image_id": 8, "category_id": 1},
        {"id": 4, "image_id": 8, "category_id": 2},
        {"id": 5, "image_id": 99, "category_id": 2},
        {"id": 6, "image_id": 9, "category_id": 77},
    ],
    "categories": [{"id": 1, "name": "green", "supercategory": ""}, {"id": 2, "name": "blue"}],
}


def test_coco_gives_labels_and_says_what_it_leaves_out(colour_folder):
    planned = plan_of(colour_folder, COCO)
    assert planned.relabel == {"red/03.jpg": "blue"}
    assert planned.refused == {
        exchange.SEVERAL: ["red/04.jpg (green, blue)"],
        exchange.NOTHING: ["red/05.jpg"],
    }
    assert planned.notes == (
        "COCO: the boxes or masks of 2 annotations are not used: a label here is of the whole image",
        "COCO: 2 annotations are of an image or a category that the file does not list",
    )


def task(image: str, *annotations: list[str], **about: object) -> dict[str, object]:
    """A task as Label Studio exports it, with the choices of each annotator."""
    return {
        "id": 1,
        "data": {"image": image},
        "project": 3,
        "predictions": [{"result": [{"type": "choices", "value": {"choices": ["red"]}}]}],
        "annotations": [
            {
                "id": k,
                "completed_by": k,
                "was_cancelled": False,
                "ground_truth": False,
                "lead_time": 3.1,
                "result": [
                    {
                        "id": "Dx_aB91ISN",
                        "from_name": "choice",
                        "to_name": "image",
                        "type": "choices",
                        "origin": "manual",
                        "value": {"choices": choices},
                    }
                ],
                **about,
            }
            for k, choices in enumerate(annotations)
        ],
    }


@pytest.mark.parametrize(
    "image",
    [
        "/data/local-files/?d=photos/red/03.jpg",
        "/data/local-files/?d=photos%5Cred%5C03.jpg",
        "/data/upload/3/red/0a1b2c3d-03.jpg",
        "s3://bucket/red/03.jpg",
        "https://example.com/red/03.jpg?signature=abc&d=1",
        "http://localhost:8080/data/local-files/?d=photos/red/03.jpg",
    ],
)
def test_label_studio_names_images_in_its_own_ways(colour_folder, image):
    assert plan_of(colour_folder, [task(image, ["blue"])]).relabel == {"red/03.jpg": "blue"}


def test_label_studio_gives_labels_on_which_all_annotators_agree(colour_folder):
    def at(name: str) -> str:
        return f"/data/local-files/?d=red/{name}.jpg"

    gold = task(at("05"), ["green"], ["blue"])
    gold["annotations"][1]["ground_truth"] = True
    planned = plan_of(
        colour_folder,
        [
            task(at("03"), ["blue"], ["blue"]),
            task(at("04"), ["blue"], ["green"]),
            gold,
            task(at("06"), ["blue"], was_cancelled=True),
            task(at("07")),
            task(at("08"), ["blue", "green"]),
            {"id": 2, "data": {"text": 3}, "annotations": []},
        ],
    )
    assert planned.relabel == {"red/03.jpg": "blue", "red/05.jpg": "blue"}
    assert [len(names) for names in planned.refused.values()] == [2, 2]
    assert set(planned.notes) == {
        "Label Studio: 1 tasks were skipped by their annotators",
        "Label Studio: 1 tasks are not annotated yet",
        "Label Studio: 1 tasks have no image",
    }


def test_label_studios_short_json_is_read_as_a_table(colour_folder):
    short = [{"image": "/data/upload/1/0a1b2c3d-r.jpg", "id": 1, "choice": "blue", "annotator": 1}]
    (colour_folder / "red" / "03.jpg").rename(colour_folder / "red" / "r.jpg")
    assert plan_of(colour_folder, short).relabel == {"red/r.jpg": "blue"}


def test_a_file_of_another_data_set_is_refused(colour_folder):
    with pytest.raises(
        ImgclfError, match="has none of the 2 images in the file, such as a.jpg, b.jpg; if they"
    ):
        plan_of(colour_folder, "path,label\na.jpg,red\nb.jpg,red\n")
    with pytest.raises(ImgclfError, match="has none of the 0 images in the file; if they"):
        plan_of(colour_folder, "path,label\n")


def test_a_name_in_the_file_does_not_steer_the_terminal(colour_folder):
    text = str(plan_of(colour_folder, "path,label\nred/00.jpg,\x1b[2J\n\x1b]0;x.jpg,red\n"))
    assert "\\x1b[2J" in text and "\\x1b]0;x.jpg" in text and "\x1b" not in text


# Which image a path means


def test_a_name_that_several_images_have_is_not_guessed(colour_folder):
    planned = plan_of(colour_folder, "path,label\n03.jpg,blue\n/x/green/04.jpg,red\n")
    assert planned.relabel == {"green/04.jpg": "red"}
    assert planned.refused == {exchange.AMBIGUOUS: ["03.jpg"]}


def test_a_name_that_the_file_has_in_several_folders_is_not_guessed(flat):
    planned = plan_of(flat, "path,label\na/red00.jpg,x\nb/red00.jpg,y\nc/red01.jpg,x\n")
    assert planned.relabel == {"unlabelled/red01.jpg": "x"}
    assert planned.refused == {exchange.AMBIGUOUS: ["a/red00.jpg", "b/red00.jpg"]}


def test_an_image_is_found_under_the_path_it_had_before_it_was_relabelled(colour_folder):
    table = "path,label\nred/03.jpg,blue\nblue/03.jpg,green\n"
    imported(colour_folder, table)
    again = plan_of(colour_folder, table.replace("green", "blue"))
    assert again.is_empty is False  # blue/03.jpg went to green and comes back; red/03.jpg stays
    assert list(again.relabel.values()) == ["blue"]
    assert plan_of(colour_folder, table).is_empty


def test_unknown_images_and_labels_are_named_and_counted(colour_folder):
    table = "path,label\nnone.jpg,red\nred/03.jpg,violet\nred/04.jpg,blue\nred/05.jpg,\n"
    text = str(plan_of(colour_folder, table))
    assert "not imported: 1 name no image of the data set: none.jpg" in text
    assert "not imported: 1 have a label that the data set lacks: red/03.jpg (violet)" in text
    assert "add them with --add-labels" in text
    assert "not imported: 1 have no label in the file: red/05.jpg" in text
    with_new = plan_of(colour_folder, table, add_labels=True)
    assert with_new.new_labels == ("violet",) and with_new.relabel["red/03.jpg"] == "violet"


def test_an_unlabelled_image_without_a_label_in_the_file_is_no_refusal(colour_folder):
    (colour_folder / "unlabelled").mkdir()
    (colour_folder / "red/05.jpg").rename(colour_folder / "unlabelled/05.jpg")
    planned = plan_of(colour_folder, "path,label\nunlabelled/05.jpg,\nred/03.jpg,red\n")
    assert (planned.refused, planned.unchanged, planned.is_empty) == ({}, 2, True)


def test_a_copy_of_a_path_with_another_label_is_refused_and_one_with_the_same_is_not(colour_folder):
    table = "path,label\nred/03.jpg,blue\nred/03.jpg,green\nred/04.jpg,blue\nred/04.jpg,blue\n"
    planned = plan_of(colour_folder, table)
    assert planned.relabel == {"red/04.jpg": "blue"}
    assert planned.refused == {exchange.SEVERAL: ["red/03.jpg (blue, green)"]}


# One change


def test_one_undo_takes_a_whole_import_back(colour_folder):
    before = state(colour_folder)
    open_elsewhere = Annotations(scan.scan_folder("colours", colour_folder))
    table = "path,label,excluded\nred/03.jpg,violet,\nred/04.jpg,blue,yes\ngreen/01.jpg,none_of_these,\n"
    imported(colour_folder, table + "blue/01.jpg,unlabelled,\n", add_labels=True)
    assert state(colour_folder) != before
    assert len(open_elsewhere.sync()) == 4 and "violet" in open_elsewhere.labels
    open_elsewhere.undo()
    assert state(colour_folder) == before and not (colour_folder / "violet").exists()
    assert not open_elsewhere.journal.active


def test_a_change_in_another_window_meanwhile_stops_the_import(colour_folder):
    listed = exchange.list_folder(colour_folder)
    planned = plan_of(colour_folder, "path,label\nred/03.jpg,blue\n")
    Annotations(scan.scan_folder("colours", colour_folder)).exclude([0])
    with pytest.raises(ImgclfError, match="another window has just changed labels; import again"):
        exchange.carry_out(listed, planned)


# Every name that Linux allows, but those that scans leave out.
NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.sampled_from(
        ["=cmd|'C calc'!A1", "+1", "-1", "@x", "'=1", "a,b;c\td", '"', "0a1b2c3d-x", "a%20b", " "]
    ),
    st.sampled_from(["a\\b", "a\r\nb", "?d=x", "e\u0301", "\u00e9", "unlabelled"]),
).filter(lambda name: not layout.is_system(name) and len(os.fsencode(name)) < 100)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=st.lists(st.tuples(NAMES, NAMES, st.booleans()), min_size=1, max_size=8),
    kind=st.sampled_from(FORMATS),
)
def test_the_import_of_an_export_changes_nothing(images, kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any") / "images"
    jpeg = b"\xff\xd8\xff\xe0 an image by its name"
    for label, name, _ in images:
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{name}.jpg").write_bytes(jpeg)
    with (folder / "annotations.jsonl").open("w") as journal:
        for change, path in enumerate(dict.fromkeys(f"{i[0]}/{i[1]}.jpg" for i in images if i[2]), start=1):
            sha256 = files.sha256(folder / path)
            step = {"action": "exclude", "path": path, "sha256": sha256, "change": change, "time": "now"}
            journal.write(json.dumps(step) + "\n")
    file = folder.parent / "labels"
    label_files.write(file, kind, exchange.rows_of(exchange.list_folder(folder))[0])
    planned = exchange.plan(exchange.list_folder(folder), label_files.read(file))
    assert planned.is_empty and set(planned.refused) <= {exchange.NOTHING}


def test_an_export_brings_labels_and_exclusions_back(annotations, distinct_folder, tmp_path):
    annotations.exclude([0])
    annotations.relabel([1, 2], "none_of_these")
    annotations.relabel([3], "unlabelled")
    file = tmp_path / "all.csv"
    label_files.write(file, "csv", exchange.rows_of(exchange.list_folder(distinct_folder))[0])
    wanted = state(distinct_folder)
    while annotations.journal.active:
        annotations.undo()
    assert state(distinct_folder) != wanted
    exchange.carry_out(
        listed := exchange.list_folder(distinct_folder), exchange.plan(listed, label_files.read(file))
    )
    assert state(distinct_folder) == wanted


def test_no_cell_of_an_export_is_a_formula(tmp_path):
    rows = [Labelled("=cmd|' /C calc'!A0.jpg", ("@SUM(1)",)), Labelled("a/-1.jpg", ("'+1",), True)]
    for kind in ("csv", "tsv"):
        label_files.write(tmp_path / kind, kind, rows)
        with (tmp_path / kind).open(newline="") as file:
            cells = [
                cell for row in csv.reader(file, delimiter="," if kind == "csv" else "\t") for cell in row
            ]
        assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r") for cell in cells if cell)
        assert label_files.read(tmp_path / kind).rows == (
            Labelled("=cmd|' /C calc'!A0.jpg", ("@SUM(1)",), False),
            Labelled("a/-1.jpg", ("'+1",), True),
        )


# Hostile files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no columns of paths and labels in ''"),
        ("a,b\n1,2\n", "no columns of paths and labels in 'a,b'; begin with a line such as path,label"),
        (
            "path,label\n" + '"' + "x" * 200_000,
            "field larger than field limit .*; is a quotation mark missing",
        ),
        ("path,label\nm\u00fcll.jpg,x\n".encode("latin-1"), "byte 13 is not UTF-8; save it as UTF-8"),
        ("[" * 100_000, "begins like JSON, but is damaged or cut"),
        ('{"a":' * 100_000, "begins like JSON, but is damaged or cut"),
        ('{"images": [', "begins like JSON, but is damaged or cut"),
        ("[" + "9" * 10_000 + "]", "begins like JSON, but is damaged or cut"),
        ("{}", "neither COCO .* nor Label Studio"),
        ("[]", "neither COCO .* nor Label Studio"),
        ("[1, 2]", "neither COCO .* nor Label Studio"),
    ],
)
def test_a_file_that_is_none_of_the_formats_is_refused(colour_folder, content, message):
    with pytest.raises(ImgclfError, match=message):
        plan_of(colour_folder, content)


def test_a_file_of_a_gigabyte_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "huge.csv"
    with file.open("wb") as empty:
        empty.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(ImgclfError, match="more than 268,435,456 bytes"):
        label_files.read(file)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ImgclfError, match="instead of a regular file"):
        label_files.read(tmp_path / "pipe.csv")


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\secret.jpg",
        "../secret.jpg",
        "file:///etc/passwd",
        "http://[x",
    ],
)
def test_no_path_leads_out_of_the_data_set(colour_folder, path):
    secret = colour_folder.parent / "secret.jpg"
    shutil.copy(colour_folder / "red" / "00.jpg", secret)
    planned = imported(colour_folder, f"path,label\n{path},red\nred/01.jpg,red\n")
    assert planned.is_empty and planned.refused == {exchange.UNKNOWN_FILE: [path]} and secret.exists()


@pytest.mark.parametrize(
    "label", ["../out", "a/b", "..", ".hidden", "con", "x" * 81, "a\x1bb", "Unlabelled/"]
)
def test_no_label_leads_out_of_the_data_set(colour_folder, label):
    planned = plan_of(colour_folder, f'path,label\nred/03.jpg,"{label}"\n', add_labels=True)
    assert planned.is_empty and len(planned.refused) == 1


KEYS = [
    "images",
    "annotations",
    "categories",
    "id",
    "image_id",
    "category_id",
    "name",
    "file_name",
    "data",
    "image",
    "result",
    "value",
    "choices",
    "excluded",
    "was_cancelled",
    "bbox",
    "label",
    "path",
]
TEXTS = st.sampled_from(["red/03.jpg", "blue", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=200)
@given(content=VALUES)
def test_any_json_gives_labels_or_one_error(content, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(json.dumps(content if isinstance(content, dict | list) else [content]))
    try:
        read = label_files.read(file)
    except ImgclfError:
        return
    assert all(isinstance(row, Labelled) for row in read.rows)
    assert all(isinstance(label, str) for row in read.rows for label in row.labels)


def test_many_alike_names_are_matched_in_a_moment(tmp_path):
    labels = {f"unlabelled/{i}/000.jpg": "unlabelled" for i in range(3000)}
    listed = exchange.Listed(tmp_path, layout.Layout(("unlabelled",)), labels, (), exchange.Journal(tmp_path))
    rows = tuple(Labelled(f"C:\\video\\{i}\\000.jpg", ("x",)) for i in range(3000))
    deep = Labelled("a/" * 100_000 + "000.jpg", ("x",))
    planned = exchange.plan(listed, LabelFile("CSV", (*rows, deep)))
    assert len(planned.relabel) == 3000 and planned.refused == {exchange.AMBIGUOUS: [deep.path]}


# From the command line


def test_images_in_no_folder_get_their_labels_from_a_file(flat, data_dir):
    lines = [f"{path.name},{path.name[:-6]}" for path in sorted(flat.glob("*.jpg"))]
    (flat / "labels.csv").write_text("\n".join(["image,class", *lines[:-1]]))
    with pytest.raises(ImgclfError, match="or import their labels from a file: imgclf labels import FILE"):
        layout.find(flat)
    before = sorted(flat.iterdir())
    options = "-p", f"images_dir={flat}", "-p", "dataset_name=flat"
    dry = imgclf("import", flat / "labels.csv", "--dry-run", *options)
    assert "35 get another label: 12 to blue, 12 to green, 11 to red" in dry.stdout, dry.output
    assert "36 images lie in no folder, and are put into unlabelled/ first" in dry.stdout
    assert sorted(flat.iterdir()) == before
    done = imgclf("import", flat / "labels.csv", *options)
    assert "done: 35 changes, as one" in done.stdout, done.output
    assert sorted(os.listdir(flat / "unlabelled")) == ["red11.jpg"]
    found = scan.scan_folder("flat", flat)
    assert found.labels == sorted(COLOURS) and len(found.images) == 35
    assert "nothing to change" in imgclf("import", flat / "labels.csv", *options).stdout


def test_a_flat_image_never_overwrites_an_unlabelled_one(flat):
    (flat / "unlabelled").mkdir()
    shutil.copy(flat / "blue00.jpg", flat / "unlabelled" / "red00.jpg")
    imported(flat, "path,label\nred01.jpg,red\n")
    assert (flat / "unlabelled" / "red00.jpg").read_bytes() == (
        flat / "unlabelled" / "blue00.jpg"
    ).read_bytes()
    assert (flat / "unlabelled" / "red00-2.jpg").exists() and (flat / "red" / "red01.jpg").exists()


def test_an_export_names_its_images_and_overwrites_only_when_asked(colour_folder, tmp_path):
    options = "-p", f"images_dir={colour_folder}"
    file = tmp_path / "labels.csv"
    assert imgclf("export", file, *options).stdout == f"wrote 36 images to {file}\n"
    assert file.read_text().startswith("path,label,excluded\nblue/00.jpg,blue,\n")
    again = imgclf("export", file, *options)
    assert (
        again.exit_code == 1
        and "exists already; name another file, or overwrite it with --replace" in again.stderr
    )
    assert imgclf("export", file, "--replace", *options).exit_code == 0
    unclear = imgclf("export", tmp_path / "labels.xlsx", *options)
    assert (
        unclear.exit_code == 1
        and "the format is not clear from '.xlsx'; give it with --format" in unclear.stderr
    )


def test_p_takes_the_data_set_alone(tmp_path):
    refused = imgclf("export", tmp_path / "x.csv", "-p", "epochs=3")
    assert refused.exit_code == 2 and "-p takes dataset_name and images_dir here" in refused.stderr


def test_a_folder_of_images_and_a_table_become_a_classifier_that_knows_what_is_none(
    flat, tiny_network, data_dir
):
    for i in range(8):
        content = decoding.jpeg(picture((220, 210, 40), seed=900 + i))
        (flat / f"other{i}.jpg").write_bytes(content)
    given = {path.name: path.name[:-6] for path in flat.glob("*.jpg")}
    given |= {name: "none_of_these" for name in given if name.startswith("other")}
    table = flat / "labels.csv"
    table.write_text("\n".join(["filename;class", *(f"{name};{label}" for name, label in given.items())]))
    options = "-p", f"images_dir={flat}", "-p", "dataset_name=colours"
    assert "done: 44 changes" in imgclf("import", table, *options).stdout
    values = {**in_process.given(tiny_network), "images_dir": str(flat)}
    printed = in_process.run_all("01", "05", values)
    assert "44 images in 3 labels, and 8 images of none of them" in printed
    assert "2 of the 11 images are of none of the labels. none_of_these counts as a class" in printed
    command = ["predict", str(flat / "none_of_these" / "other0.jpg"), str(flat / "red" / "red00.jpg")]
    lines = CliRunner().invoke(cli.main, command).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines[-2:]] == ["none of the labels", "red"]
