"""Files of labels: CSV, TSV, COCO and Label Studio's JSON, read and written."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from imgclf import ImgclfError, files
from imgclf.data.labels import UNLABELLED
from imgclf.images import decoding

LINE = 2**16  # letters of the first line, at most
MAX_BYTES = 2**28  # the file is read whole; labels of some million images have less
DELIMITERS = "\t;,"
# Normalized headers of the columns, most specific first; `id` stands alone in Kaggle's data sets.
PATHS = (
    *("path", "image_path", "img_path", "file_path", "filepath", "file_name", "filename", "image_name"),
    *("image", "file", "img", "name", "image_id", "id"),
)
LABELS = ("label", "class", "category", "labels", "class_name", "label_name", "category_name", "choice")
EXCLUDED = ("excluded",)
YES, NO = ("yes", "true", "1", "x"), ("", "no", "false", "0")
FORMULA = r"[=+\-@\t\r]"  # a spreadsheet takes a cell that begins so for a formula
UPLOADED = r"[0-9a-f]{8}-(.+)"  # Label Studio's name of an uploaded file
CSV, TSV, COCO, LABEL_STUDIO = "csv", "tsv", "coco", "label-studio"
FORMATS = (CSV, TSV, COCO, LABEL_STUDIO)


@dataclass(frozen=True)
class Labelled:
    """What a file says of one image.

    Attributes
    ----------
    path : as the file writes it, or below the data set's folder, with forward slashes.
    labels : empty if the file has none for the image; several are refused by the import.
    is_excluded : None if the file does not say.
    """

    path: str
    labels: tuple[str, ...] = ()
    is_excluded: bool | None = None


@dataclass(frozen=True)
class LabelFile:
    """The content of a file of labels.

    Attributes
    ----------
    kind : of the file, in words.
    notes : what was left out, one sentence each.
    """

    kind: str
    rows: tuple[Labelled, ...]
    notes: tuple[str, ...] = field(default=())


def read(path: Path) -> LabelFile:
    """Read a file of labels; its content decides the format.

    Raises
    ------
    ImgclfError : it cannot be read, has more than `MAX_BYTES`, or is none of the formats.
    """
    text = _text(path)
    if text.lstrip()[:1] in ("{", "["):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ImgclfError(f"{path}: begins like JSON, but is damaged or cut; export it again") from error
        return _from_json(path, content)
    return _from_table(path, text)


def _text(path: Path) -> str:
    encoded = files.read_bytes(path, max_bytes=MAX_BYTES)
    encoding = "utf-16" if encoded.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return encoded.decode(encoding)
    except UnicodeDecodeError as error:
        raise ImgclfError(
            f"{path}: byte {error.start + 1} is not {encoding.removesuffix('-sig').upper()}; "
            "save it as UTF-8 (in a spreadsheet: CSV UTF-8)"
        ) from error


def _from_table(path: Path, text: str) -> LabelFile:
    try:
        found = next(filter(None, (_columns(text, delimiter) for delimiter in DELIMITERS)), None)
        if not found:
            raise ImgclfError(
                f"{path}: no columns of paths and labels in {text.partition(chr(10))[0][:80]!r}; "
                "begin with a line such as path,label (or image, file, filename and class, category)"
            )
        delimiter, columns, has_header = found
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [row for row in lines if any(cell.strip() for cell in row)][int(has_header) :]
    except csv.Error as error:
        raise ImgclfError(f"{path}: {error}; is a quotation mark missing? Save it as CSV again") from error
    kept = [_row(row, columns) for row in rows]
    short = sum(row is None for row in kept)
    notes = [f"{short} lines have too few cells, or no path"] if short else []
    return LabelFile("TSV" if delimiter == "\t" else "CSV", tuple(filter(None, kept)), tuple(notes))


def _columns(text: str, delimiter: str) -> tuple[str, tuple[int, int, int], bool] | None:
    """Return the columns of path, label and exclusion (-1: none) for a delimiter; None if it is not that."""
    first = next(
        (row for row in csv.reader(io.StringIO(text[:LINE], newline=""), delimiter=delimiter) if row), []
    )
    names = [re.sub(r"[\s-]+", "_", cell.strip().casefold()) for cell in first]
    columns = tuple(_first_of(wanted, names) for wanted in (PATHS, LABELS, EXCLUDED))
    if min(columns[:2]) >= 0:
        return delimiter, (columns[0], columns[1], columns[2]), True
    is_file = [Path(cell.strip()).suffix.lower() in decoding.SUFFIXES for cell in first]
    if len(first) == 2 and sum(is_file) == 1:  # without a header
        return delimiter, (is_file.index(True), is_file.index(False), -1), False
    return None


def _first_of(wanted: Iterable[str], names: Sequence[str]) -> int:
    return next((names.index(name) for name in wanted if name in names), -1)


def _row(cells: Sequence[str], columns: tuple[int, int, int]) -> Labelled | None:
    if max(columns[:2]) >= len(cells) or not cells[columns[0]].strip():
        return None
    path, label = (_plain(cells[column]) for column in columns[:2])
    excluded = cells[columns[2]].strip().casefold() if 0 <= columns[2] < len(cells) else None
    is_excluded = {**dict.fromkeys(YES, True), **dict.fromkeys(NO, False)}.get(excluded or "")
    return Labelled(path, (label,) if label.strip() else (), None if excluded is None else is_excluded)


def _plain(cell: str) -> str:
    """Undo `_in_cell`."""
    return cell[1:] if re.match(f"'+{FORMULA}", cell) else cell


def _in_cell(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs as a formula.

    Source: OWASP, "CSV Injection": a cell that begins with =, +, -, @, tab or carriage return gets a single
    quotation mark in front.
    """
    return f"'{text}" if re.match(f"'*{FORMULA}", text) else text


def _from_json(path: Path, content: Any) -> LabelFile:
    if isinstance(content, dict) and all(_is_list(content.get(key)) for key in ("images", "annotations")):
        return _from_coco(content)
    tasks = [content] if isinstance(content, dict) and "data" in content else content
    if not _is_list(tasks) or not tasks or not all(isinstance(task, dict) for task in tasks):
        raise ImgclfError(
            f"{path}: neither COCO (an object with images, annotations, categories) nor Label Studio "
            "(a list of tasks with data and annotations); export it in one of these formats"
        )
    if all("data" in task for task in tasks):
        return _from_label_studio(tasks)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(name for task in tasks for name in task)))
    writer.writeheader()  # Label Studio's JSON-MIN, or a table as pandas writes it
    writer.writerows(
        {name: value for name, value in task.items() if isinstance(value, str | int)} for task in tasks
    )
    return _from_table(path, text.getvalue())


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _objects(items: Any) -> Iterator[dict[str, Any]]:
    return (item for item in items if isinstance(item, dict)) if isinstance(items, list) else iter(())


def _from_coco(content: dict[str, Any]) -> LabelFile:
    """Read COCO, without its boxes and masks. Source: cocodataset.org, "Data format"."""
    names = {_id(one.get("id")): str(one.get("name", "")) for one in _objects(content.get("categories"))}
    labels: dict[object, dict[str, None]] = {}
    boxes = unknown = 0
    known = {_id(image.get("id")) for image in _objects(content["images"])}
    for annotation in _objects(content["annotations"]):
        image, name = _id(annotation.get("image_id")), names.get(_id(annotation.get("category_id")), "")
        boxes += bool(annotation.get("bbox") or annotation.get("segmentation"))
        if image in known and name:
            labels.setdefault(image, {})[name] = None
        else:
            unknown += 1
    rows = [
        Labelled(
            image["file_name"],
            tuple(labels.get(_id(image.get("id")), ())),
            image["excluded"] if isinstance(image.get("excluded"), bool) else None,
        )
        for image in _objects(content["images"])
        if isinstance(image.get("file_name"), str)
    ]
    notes = {
        f"the boxes or masks of {boxes} annotations are not used: a label here is of the whole image": boxes,
        f"{unknown} annotations are of an image or a category that the file does not list": unknown,
    }
    return LabelFile("COCO", tuple(rows), tuple(note for note, count in notes.items() if count))


def _id(value: Any) -> object:
    """Return an id as it can be looked up; COCO writes numbers, some tools texts."""
    return str(value) if isinstance(value, str | int) else None


def _from_label_studio(tasks: Sequence[dict[str, Any]]) -> LabelFile:
    """Read Label Studio's JSON export. Source: labelstud.io, "Label Studio Task Format"."""
    skipped: Counter[str] = Counter()
    rows = []
    for task in tasks:
        data = task["data"] if isinstance(task["data"], dict) else {}
        if not (path := _image_of(data)):
            skipped["tasks have no image"] += 1
            continue
        labels, reason = _choices(task)
        skipped[reason] += 1
        excluded = data.get("excluded")
        rows.append(Labelled(path, labels, excluded if isinstance(excluded, bool) else None))
    notes = [f"{count} {reason}" for reason, count in skipped.items() if reason]
    return LabelFile("Label Studio", tuple(rows), tuple(notes))


def _choices(task: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """Return the choices of a task, and why it has none.

    Skipped (cancelled) annotations do not count. If one is marked as ground truth, the others do not either.
    Annotators that disagree give several labels, which the import refuses.
    """
    every = [*_objects(task.get("annotations")), *_objects(task.get("completions"))]
    done = [one for one in every if not one.get("was_cancelled")]
    done = [one for one in done if one.get("ground_truth") is True] or done
    values = [result.get("value") for one in done for result in _objects(one.get("result"))]
    lists = [value.get("choices") for value in values if isinstance(value, dict)]
    choices = (choice for some in lists if isinstance(some, list) for choice in some)
    labels = tuple(dict.fromkeys(choice for choice in choices if isinstance(choice, str)))
    if labels or not every:
        return labels, "" if labels else "tasks are not annotated yet"
    return (), "tasks were annotated without a choice" if done else "tasks were skipped by their annotators"


def _image_of(data: dict[str, Any]) -> str:
    """Return the path or URL of a task's image: of the key `image`, else of the first that names an image."""
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    ordered = [texts[name] for name in ("image", "img", "url", "path") if name in texts] or texts.values()
    return next(iter(ordered), "")


def path_of(given: str) -> tuple[str, ...]:
    """Return the paths that one in a file of labels may mean, with forward slashes, the likeliest first.

    A URL gives its path, one of Label Studio's local files the value of `d`. Label Studio puts eight digits
    before the name of an uploaded file; without them it is the last path.
    """
    given = given.strip()
    if re.match(r"[a-z][a-z0-9+.-]+://", given, re.IGNORECASE) or given.startswith("/data/"):
        try:
            parts = urlsplit(given)
        except ValueError:
            return ()
        local = parse_qs(parts.query).get("d", [""])[0] if parts.path.endswith("/local-files/") else ""
        given = local or unquote(parts.path)
    written, path = given, re.sub(r"/+", "/", given.replace("\\", "/"))
    folder, slash, name = path.rpartition("/")
    if uploaded := re.fullmatch(UPLOADED, name):
        return path, written, f"{folder}{slash}{uploaded[1]}"
    return path, written


def write(path: Path, kind: str, rows: Sequence[Labelled]) -> None:
    """Write labels in one of `FORMATS`, atomically; each row has one label or none."""
    writers: dict[str, Callable[[Sequence[Labelled]], str]] = {
        CSV: lambda rows: _table(rows, ","),
        TSV: lambda rows: _table(rows, "\t"),
        COCO: lambda rows: files.to_json(_coco(rows), indent=1) + "\n",
        LABEL_STUDIO: lambda rows: files.to_json(list(map(_task, rows)), indent=1) + "\n",
    }
    files.write_text(path, writers[kind](rows))


def _table(rows: Iterable[Labelled], delimiter: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["path", "label", "excluded"])
    writer.writerows(
        [_in_cell(row.path), _in_cell("".join(row.labels) or UNLABELLED), "yes" if row.is_excluded else ""]
        for row in rows
    )
    return text.getvalue()


def _coco(rows: Sequence[Labelled]) -> dict[str, Any]:
    names = sorted({label for row in rows for label in row.labels})
    number = {name: k for k, name in enumerate(names, start=1)}
    labelled = [(i, row.labels[0]) for i, row in enumerate(rows, start=1) if row.labels]
    return {
        "images": [
            {"id": i, "file_name": row.path, "excluded": bool(row.is_excluded)}
            for i, row in enumerate(rows, start=1)
        ],
        "annotations": [
            {"id": k, "image_id": i, "category_id": number[label]}
            for k, (i, label) in enumerate(labelled, start=1)
        ],
        "categories": [{"id": k, "name": name} for name, k in number.items()],
    }


def _task(row: Labelled) -> dict[str, Any]:
    choice = {
        "from_name": "label",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": list(row.labels)},
    }
    return {
        "data": {"image": f"/data/local-files/?d={quote(row.path)}", "excluded": bool(row.is_excluded)},
        "annotations": [{"result": [choice]}] if row.labels else [],
    }
