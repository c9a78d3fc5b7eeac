"""A run in MLflow's terms: parameters, metrics by step and tags, within its limits."""

import hashlib
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgclf.experiments.history.run import Run

if TYPE_CHECKING:
    from mlflow.entities import Run as Copy

LONGEST_KEY, LONGEST_NAME, LONGEST_PARAMETER, LONGEST_TAG = 250, 250, 6000, 8000  # letters
ID, STATE = "imgclf.id", "imgclf.handed_in"  # tags: which run it is a copy of; hashes of what people change
NOTE = "mlflow.note.content"
NOT_OF_PEOPLE = ("mlflow.", "imgclf.")  # beginnings of tags


def milliseconds(run: Run) -> int:
    """Return when a run started, as MLflow counts."""
    return round(1000 * run.time.timestamp())


def parameters(run: Run) -> dict[str, str]:
    """Return all parameters as text."""
    texts = (str(value)[:LONGEST_PARAMETER] for value in run.parameters.values())
    return dict(zip(_keys(run.parameters), texts, strict=True))


def tags(run: Run) -> dict[str, str]:
    """Return the tags of a copy: what the run is about, and what a person said of it."""
    edited = Edited.of(run)
    own = {
        "mlflow.source.name": "imgclf",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": run.about.get("git commit", ""),
        NOTE: edited.note,
        STATE: edited.as_text(),
        "imgclf.kind": run.kind,
        "imgclf.folder": run.folder.name,
        "imgclf.error": run.error,
        "imgclf.values": ", ".join(f"{name}={value}" for name, value in run.values.items()),
    }
    about = {f"imgclf.{_key(name)}": value for name, value in run.about.items()}
    stated = {name: text[:LONGEST_TAG] for name, text in {**about, **own}.items() if text}
    return {**stated, **edited.tags}


def metrics(run: Run) -> list[tuple[str, int, float]]:
    """Return name, step and value of metrics, counts of images, seconds, memory, and curves.

    The numbers that a curve is over are a metric of its own if they are no steps: MLflow's charts take either
    for the x axis.
    """
    points: dict[str, list[tuple[int, float]]] = {name: [(0, value)] for name, value in run.metrics.items()}
    for part, counts in run.counts.items():
        points |= {f"{part} images of class {label}": [(0, n)] for label, n in counts.items()}
    points |= {f"seconds of notebook {number}": [(0, value)] for number, value in run.seconds.items()}
    points |= {
        f"peak memory of notebook {number} in MB": [(0, n)] for number, n in run.peak_memory_mb.items()
    }
    for name, curve in run.curves.items():
        is_by_step = all(float(x).is_integer() and abs(x) < 2**31 for x, _ in curve)
        points[name] = [(int(x) if is_by_step else k, y) for k, (x, y) in enumerate(curve)]
        if not is_by_step:
            points[name.rpartition(" over ")[2]] = [(k, x) for k, (x, _) in enumerate(curve)]
    return [
        (key, step, float(value))
        for key, curve_points in zip(_keys(points), points.values(), strict=True)
        for step, value in curve_points
        if math.isfinite(value)
    ]


def _key(name: str) -> str:
    """Return a name as MLflow takes it: letters of any language, digits, and a few signs."""
    key = re.sub(r"[^\w.\- ]", "_", unicodedata.normalize("NFC", name))
    return ("_" if key.startswith(".") or not key else "") + key[: LONGEST_KEY - 1]  # no path, such as ".."


def _keys(names: Iterable[str]) -> list[str]:
    """Return names as MLflow takes them, each another one."""
    taken: dict[str, None] = {}
    for name in names:
        tries = (f"{_key(name)[: LONGEST_KEY - 8]} {number}" for number in itertools.count(2))
        taken[next(key for key in itertools.chain([_key(name)], tries) if key not in taken)] = None
    return list(taken)


@dataclass(frozen=True)
class Edited:
    """What a person may change of a run, here or on MLflow's page, as MLflow stores it."""

    name: str
    note: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, run: Run) -> "Edited":
        """Return that of a run. A tag `fruit=ripe` has the key `fruit` and the value `ripe`."""
        pairs = dict(tag.partition("=")[::2] for tag in run.tags)
        # A key that MLflow does not take goes into the value, for `tags_as_here` to find it.
        tags = {
            _key(key): value if _key(key) == key else f"{key}={value}".removesuffix("=")
            for key, value in pairs.items()
        }
        tags = {(f"tag {k}" if k.startswith(NOT_OF_PEOPLE) else k): v[:LONGEST_TAG] for k, v in tags.items()}
        return cls(run.name[:LONGEST_NAME], run.note[:LONGEST_TAG], tags)

    @classmethod
    def of_copy(cls, copy: "Copy") -> "Edited":
        """Return that of a copy."""
        tags = {key: text for key, text in copy.data.tags.items() if not key.startswith(NOT_OF_PEOPLE)}
        return cls(copy.info.run_name or "", copy.data.tags.get(NOTE, ""), tags)

    def hashes(self) -> dict[str, str]:
        """Return a hash of each attribute."""
        texts = {"name": self.name, "note": self.note, "tags": json.dumps(sorted(self.tags.items()))}
        return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}

    def as_text(self) -> str:
        """Return the hashes as the tag that says what was handed in last."""
        return json.dumps(self.hashes())

    def tags_as_here(self) -> tuple[str, ...]:
        """Return the tags as a run has them."""
        return tuple(
            value
            if key == _key(name := value.partition("=")[0]) != name
            else f"{key}={value}".removesuffix("=")
            for key, value in self.tags.items()
        )
