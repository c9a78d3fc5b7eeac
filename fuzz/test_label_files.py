"""A file of labels from somebody else: it is read, or refused, and never changes a file outside of the data set."""

from imgclf.annotation import exchange, label_files
from imgclf.annotation.label_files import FORMATS, Labelled
from support.mutations import TEXT, damaged
from support.pictures import write_colours

ROWS = [
    Labelled("red/03.jpg", ("blue",)),
    Labelled("red/04.jpg", ("none_of_these",), True),
    Labelled("../outside.jpg", ("violet",)),
    Labelled("green/01.jpg"),
]
TOKENS = (
    *TEXT,
    *(
        b"../outside.jpg",
        b"/data/local-files/?d=",
        b"http://[",
        b"0a1b2c3d-",
        b"C:\\",
        b"=cmd",
        b"'",
        b"unlabelled",
    ),
    *(
        b'"data"',
        b'"choices"',
        b'"annotations"',
        b'"images"',
        b"path,label\n",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b";",
    ),
)


def test_import_of_a_damaged_file_of_labels(fuzz, tmp_path):
    folder = write_colours(tmp_path / "colours")
    (tmp_path / "outside.jpg").write_bytes(b"outside")
    file = tmp_path / "labels"
    contents = []
    for kind in FORMATS:
        label_files.write(file, kind, ROWS)
        contents.append(file.read_bytes())

    def is_read(inputs: dict[str, bytes]) -> str:
        file.write_bytes(inputs["content"])
        listed = exchange.list_folder(folder)
        planned = exchange.plan(listed, label_files.read(file), add_labels=True)
        assert set(planned.relabel) <= set(listed.labels)
        assert "\x1b" not in str(planned)
        exchange.carry_out(listed, planned)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["colours", "labels", "outside.jpg"]
        assert (tmp_path / "outside.jpg").read_bytes() == b"outside"
        assert sum(path.is_file() for path in folder.rglob("*.jpg")) == 36
        return "changed" if not planned.is_empty else "unchanged"

    fuzz(damaged(contents, TOKENS).map(lambda content: {"content": content}), is_read)
