"""A manifest of labels beside images at a URL: it is read, or refused, and names no folder outside of the data set."""

from imgclf.data import remote
from imgclf.data.label_names import label_fault
from imgclf.data.labels import NO_LABELS
from imgclf.data.remote import Row
from support.mutations import TEXT, damaged

ROWS = [
    Row("red/03.jpg", "blue", "", "0" * 64, '"etag"'),
    Row("red/04.jpg", "none_of_these", "excluded", "a" * 64, ""),
]
TOKENS = (*TEXT, b"../outside", b"\t", b"\r\n", b'"', b"excluded", b"unlabelled", b"path\t", b"\xff\xfe")


def test_damaged_manifest(fuzz):
    def is_read(inputs: dict[str, bytes]) -> str:
        rows = remote._parsed(inputs["content"], "manifest")
        assert not any(label_fault(row.label) for row in rows.values() if row.label not in NO_LABELS)
        return f"{len(rows)} rows"

    fuzz(damaged([remote._text(ROWS)], TOKENS).map(lambda content: {"content": content}), is_read)
