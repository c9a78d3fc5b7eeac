"""Random walks through the stages of a data set: notebooks, other parameters, and files that somebody changes between them.

What 05 gives must be what a fresh run gives, with the parameters that the records name, or be refused with a reason.
"""

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from imgclf import ImgclfError, files
from imgclf.annotation.annotations import Annotations
from imgclf.data import layout, scan
from imgclf.engines import openvino
from imgclf.evaluation import report
from imgclf.evaluation.metrics import Evaluation
from imgclf.experiments import provenance, sequence
from imgclf.images import decoding
from support import in_process
from support.networks import write_tiny_network
from support.pictures import picture, write_colours

MOST_ADVICE = 6  # rounds; each may heal one stage
TOLERANCE = 1e-3  # of scores, whose last digits depend on the batch
NUMBERS = st.integers(0, 10**6)
SWAPPED = (
    "classifier.onnx", "dnn_fixed.onnx", "held_out.npz", "label_scores.npz", "scores.npz", "scores_svm.npz", "svm.npz",
    "evaluation.json", "images.tsv", "images.json", "split.tsv", "split.json", "features",
    *(f"made_with/0{k}.json" for k in range(1, 6)),
)  # fmt: skip
OTHERS: dict[str, tuple[Any, ...]] = {
    "engine": ("openvino", "onnxruntime"),
    "seed": (0, 1),
    "svm_c": ([0.1, 1.0], [1e-4]),
    "l2_normalize": (True, False),
    "train_fraction": (0.75, 0.5),
    "near_duplicates": ("together", "ignored"),
    "input_size": (32, 64),
    "precision": ("f32", "int8", *(["bf16"] if openvino.has_bf16() else [])),
}


class Laboratory:
    """What all walks share: networks, the finished runs whose files are swapped in, and the results of fresh runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fresh: dict[str, Evaluation | str] = {}
        for size in OTHERS["input_size"]:
            write_tiny_network(folder / f"tiny{size}.onnx", size=size)
        images = write_colours(folder / "images")
        for path in [*images.glob("*/*.jpg")]:  # so that they can be relabelled under their names
            path.rename(path.with_name(f"{path.parent.name}{path.name}"))
        self.start = self.run(images, "start", {})
        self.donors = [
            self.run(images, f"donor{k}", {name: others[1]})
            for k, (name, others) in enumerate(OTHERS.items())
        ]

    def values(self, others: dict[str, Any]) -> dict[str, Any]:
        size = others.get("input_size", 32)
        return in_process.given(self.folder / f"tiny{size}.onnx") | {"input_size": size} | others

    def run(self, images: Path, name: str, others: dict[str, Any], split: bytes = b"") -> Path:
        """Run 01 to 05 in a data folder of its own; `split` takes the place of what 01 wrote."""
        data = self.folder / name
        shutil.copytree(images, data / "images" / "colours")
        (data / "networks").mkdir()
        for exported in self.folder.glob("start/networks/*-copies-*.onnx"):  # each export takes ten seconds
            shutil.copy(exported, data / "networks")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IMGCLF_DATA", str(data))
            in_process.run_all("01", "01", self.values(others))
            if split:
                (data / "proc/colours/split.tsv").write_bytes(split)
            in_process.run_all("02", "05", self.values(others))
        return data

    def result(self, images: Path, others: dict[str, Any], split: bytes) -> Evaluation | str:
        """The test scores of a fresh run, or the reason why there are none."""
        state = [
            (path.relative_to(images).as_posix(), files.sha256(path))
            for path in sorted(images.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        ]
        key = json.dumps([state, others, split.decode(errors="replace")])
        if key not in self.fresh:
            try:
                data = self.run(images, f"fresh{len(self.fresh)}", others, split)
                self.fresh[key] = report.read_scores(data / "proc/colours/scores.npz")
                shutil.rmtree(data)
            except ImgclfError as error:
                self.fresh[key] = str(error)
        return self.fresh[key]


class Walk(RuleBasedStateMachine):
    """A data folder in which anything happens."""

    laboratory: Laboratory

    @initialize()
    def begin(self) -> None:
        self.base = Path(tempfile.mkdtemp(dir=self.laboratory.folder))
        self.data, self.scanned = self.base / "data", self.base / "scanned"
        shutil.copytree(self.laboratory.start, self.data)
        shutil.copytree(self.images, self.scanned)
        os.environ["IMGCLF_DATA"] = str(self.data)
        self.others: dict[str, Any] = {}

    def teardown(self) -> None:
        if hasattr(self, "base"):
            shutil.rmtree(self.base)

    @property
    def images(self) -> Path:
        return self.data / "images" / "colours"

    @property
    def proc(self) -> Path:
        return self.data / "proc" / "colours"

    def tried(self, work: Callable[[], object]) -> bool:
        """Whether the work was done; it is refused by an ImgclfError at worst."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                work()
        except ImgclfError as error:
            self.refused = str(error)
            note(f"refused: {error}")
            return False
        return True

    # What a person does.

    @rule(name=st.sampled_from(sorted(OTHERS)), second=st.booleans())
    def other_parameter(self, name: str, second: bool) -> None:
        self.others = self.others | {name: OTHERS[name][second]}

    @rule(number=st.sampled_from(["01", "02", "03", "04"]))
    def run_one(self, number: str) -> None:
        self.notebook(number)

    @rule(number=st.sampled_from(["01", "02", "03", "04"]))
    def run_the_rest(self, number: str) -> None:
        self.run_from(number)

    def run_from(self, number: str) -> bool:
        """Run a notebook and all that follow; whether none was refused."""
        return all(self.notebook(f"{each:02d}") for each in range(int(number), 6))

    @invariant()
    def evaluate(self) -> None:
        """After whatever happened, a person runs 05."""
        self.notebook("05")

    @rule(number=st.sampled_from(["01", "02", "03", "04"]))
    def interrupted(self, number: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(provenance, "end", in_process.nothing)
            self.notebook(number)

    @rule()
    def follow_advice(self) -> None:
        """Run the notebooks that errors name, until 05 has run: there is no dead end."""
        start = "05"
        for _ in range(MOST_ADVICE):
            if self.run_from(start):
                return
            named = re.findall(r"(?:run|from) (0[1-5])_\w+", self.refused)
            if not named:  # an image is gone, of which 04 stores a thumbnail
                assert "No such file or directory; check that it exists" in self.refused, self.refused
            start = named[0] if named else "01"
        assert isinstance(self.laboratory.result(self.images, self.varied(self.others), b""), str), (
            self.refused
        )

    @rule()
    def run_what_has_to(self) -> None:
        """`imgclf run`: then the results are those of the wanted parameters."""
        is_done = self.tried(lambda: sequence.run(self.laboratory.values(self.others)))
        made = provenance.read("colours", "01")
        if made and made.inputs.get(provenance.IMAGES) == layout.images_state(self.images):
            self.remember_scan("01")  # else 01 did not run
        if is_done:
            self.compare(self.others, self.edited_split())

    # What happens to the files.

    @rule(name=st.sampled_from(SWAPPED), donor=NUMBERS)
    def swap(self, name: str, donor: int) -> None:
        """A file of another run, with other parameters."""
        other = self.laboratory.donors[donor % len(self.laboratory.donors)] / "proc" / "colours"
        if name != "features":
            (self.proc / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(other / name, self.proc / name)
            return
        for place in self.proc.glob("features/*"):
            for shard in next(other.glob("features/*")).glob("*.npz"):
                shutil.copy(shard, place)

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        paths = sorted(path for path in self.proc.rglob("*") if path.is_file())
        paths[number % len(paths)].unlink()

    @rule(number=NUMBERS, offset=NUMBERS)
    def damage(self, number: int, offset: int) -> None:
        paths = sorted(path for path in self.proc.rglob("*") if path.is_file() and path.stat().st_size)
        path = paths[number % len(paths)]
        content = bytearray(path.read_bytes())
        content[offset % len(content)] ^= 1
        path.write_bytes(content)

    @rule(number=NUMBERS)
    def edit_split(self, number: int) -> None:
        """Move an image to the other set."""
        table = self.proc / "split.tsv"
        lines = files.read_text(table).splitlines(keepends=True)
        if len(lines) > 2:
            row = 1 + number % (len(lines) - 1)
            is_test = "\ttest\t" in lines[row]
            lines[row] = lines[row].replace(
                *(("\ttest\t", "\ttrain\t") if is_test else ("\ttrain\t", "\ttest\t"))
            )
            table.write_text("".join(lines))

    @rule(number=NUMBERS)
    def relabel(self, number: int) -> None:
        def work() -> None:
            notes = Annotations(scan.scan_folder("colours", self.images))
            image = number % len(notes.images)
            notes.relabel(
                [image], next(label for label in notes.labels if label != notes.images[image].label)
            )

        self.tried(work)

    @rule(number=NUMBERS)
    def move_by_hand(self, number: int) -> None:
        path = self.image(number)
        labels = sorted(
            each.name for each in self.images.iterdir() if each.is_dir() and each.name != path.parent.name
        )
        path.rename(self.images / labels[number % len(labels)] / path.name)

    @precondition(lambda self: len([*self.images.rglob("*.jpg")]) > 25)
    @rule(number=NUMBERS)
    def delete_image(self, number: int) -> None:
        self.image(number).unlink()

    @rule(number=NUMBERS, seed=st.integers(0, 9))
    def change_image(self, number: int, seed: int) -> None:
        self.image(number).write_bytes(decoding.jpeg(picture((200, 40, 40), seed=9000 + seed)))

    @rule(seed=st.integers(0, 9))
    def new_image(self, seed: int) -> None:
        (self.images / "red" / f"new{seed}.jpg").write_bytes(
            decoding.jpeg(picture((200, 40, 40), seed=500 + seed))
        )

    @rule(number=NUMBERS)
    def name_test_images(self, number: int) -> None:
        path = self.image(number)
        (self.images / "dedicatedTestImages.tsv").write_text(f"{path.parent.name}/{path.name}\n")

    def image(self, number: int) -> Path:
        paths = sorted(self.images.rglob("*.jpg"))
        return paths[number % len(paths)]

    # What must hold.

    def notebook(self, number: str) -> bool:
        """Run a notebook; whether it was not refused."""
        if not self.tried(lambda: in_process.run_all(number, number, self.laboratory.values(self.others))):
            return False
        self.remember_scan(number)
        if number == "05":
            made = [provenance.read("colours", each) for each in ("01", "02", "03", "04")]
            of_records = {name: value for each in made if each for name, value in each.parameters.items()}
            varied = {name: value for name, value in (of_records | self.of_05()).items() if name in OTHERS}
            self.compare(varied, self.edited_split())
        return True

    def edited_split(self) -> bytes:
        return (self.proc / "split.tsv").read_bytes() if provenance.is_edited("colours") else b""

    def varied(self, others: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in sorted(others.items()) if value != OTHERS[name][0]}

    def of_05(self) -> dict[str, Any]:
        return {name: value for name, value in self.others.items() if name in ("engine", "seed")}

    def remember_scan(self, number: str) -> None:
        if number == "01":
            shutil.rmtree(self.scanned)
            shutil.copytree(self.images, self.scanned)

    def compare(self, others: dict[str, Any], split: bytes) -> None:
        """Compare the test scores with those of a fresh run on the images as they were scanned."""
        found = report.read_scores(self.proc / "scores.npz")
        expected = self.laboratory.result(self.scanned, self.varied(others), split)
        assert not isinstance(expected, str), f"a fresh run is refused: {expected}"
        row = {path: k for k, path in enumerate(expected.paths)}
        assert set(found.paths) <= set(row) and found.labels == expected.labels
        for path in set(row) - set(found.paths):  # skipped, and named in 05
            unchanged = self.images / path
            assert not unchanged.exists() or files.sha256(unchanged) != files.sha256(self.scanned / path)
        rows = [row[path] for path in found.paths]
        np.testing.assert_array_equal(found.truth, expected.truth[rows])
        np.testing.assert_allclose(found.scores, expected.scores[rows], atol=TOLERANCE, rtol=TOLERANCE)


def check_walks(
    folder: Path, patch: pytest.MonkeyPatch, *, walks: int, steps: int, seed: int, seconds: float
) -> None:
    """Try so many walks, of so many steps each; again with the next seed until the time is up."""
    in_process.leave_out_what_is_shown(patch)
    patch.setattr(sequence, "execute", in_process.execute)
    patch.setattr(Walk, "laboratory", Laboratory(folder), raising=False)
    settings = hypothesis.settings(
        max_examples=walks,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],  # to find the smallest walk takes very long
    )
    end = time.monotonic() + seconds
    while True:
        seeded = hypothesis.seed(seed)(type("Walk", (Walk,), {}))
        run_state_machine_as_test(seeded, settings=settings)
        seed += 1
        if time.monotonic() >= end:
            return
