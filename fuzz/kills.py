"""SIGKILL at random moments of each work; the next run must end as an undisturbed one does. `make kill`.

    python fuzz/kills.py [WORK ...] [--kills 60] [--seed 0]

Each kill begins with the same data folder. The work runs in a fork of this process, which has imported all that
it needs, and the moment is drawn over the duration of the work, so that the kills hit the work. Then the work
runs again to its end, without waiting for a lock that is left over, and the whole data folder is compared with
that of an undisturbed run: nothing is lost, doubled, or left over.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
os.environ["OMP_NUM_THREADS"] = "1"  # tiny networks: more threads only wait for each other

import numpy as np
import torch
from IPython.core.interactiveshell import InteractiveShell

from imgclf import features, files, svm
from imgclf.annotation import suspects
from imgclf.annotation.annotations import Annotations
from imgclf.classifier import export, heads
from imgclf.classifier.model import Classifier
from imgclf.collect import failures, fetch, manifest, queries, search
from imgclf.data import dataset, scan, split
from imgclf.data.journal import NAME as JOURNAL
from imgclf.evaluation import report
from imgclf.experiments import notebooks, provenance, sweep
from imgclf.experiments.history import cost, recording, tracking
from imgclf.finetuning import finetune, recipe
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from imgclf.networks.architectures import LITE_STAGES, LiteArchitecture
from imgclf.networks.backbones import Backbone
from support.networks import write_tiny_network
from support.pictures import COLOURS, write_colours

TIMEOUT_SECONDS = 120
DAY = 24 * 3600
SIZE = 32
BASE = Path(tempfile.mkdtemp(prefix="imgclf_kills_"))
os.environ["IMGCLF_DATA"] = str(BASE / "data")


def folder() -> Path:
    return dataset.images_folder("colours")


def proc() -> Path:
    return files.proc_dir("colours")


# What each work starts from, and the work.


def prepare_fetch() -> None:
    served = write_colours(BASE / "served")
    port = int((BASE / "port").read_text())
    lines = [
        f"{path.parent.name}\thttp://127.0.0.1:{port}/{path.relative_to(served)}"
        for path in sorted(served.glob("*/*.jpg"))
    ]
    lines += [f"red\thttp://127.0.0.1:{port}/gone{i}.jpg" for i in range(3)]
    rows = [f"{line}\t{'test' if k % 4 == 0 else 'train'}" for k, line in enumerate(lines)]
    (BASE / "colours.tsv").write_text("\n".join(["label\tsource\tsplit", *rows]))


def run_fetch() -> None:
    entries = manifest.read(BASE / "colours.tsv")
    fetch.fetch_images(entries, folder(), max_image_side=60, threads=4, private_addresses=True)
    fetch.write_test_list(entries, folder())


def prepare_search() -> None:
    (BASE / "served").mkdir(exist_ok=True)
    results = [{"url": f"http://a.org/{i}.jpg", "license": "by", "creator": "Ann"} for i in range(20)]
    (BASE / "served" / "images.json").write_text(json.dumps({"page_count": 6, "results": results}))


def run_search() -> None:
    url = f"http://127.0.0.1:{(BASE / 'port').read_text()}/images.json"
    grid = queries.grid("shirt, dress", "red, blue")
    found = search.run(
        search.service("openverse", url=url), grid, dataset_name="colours", images_per_query=100
    )
    search.write_manifest(found, "colours")


def prepare_images() -> None:
    """The images of the colours, with names that differ between labels, so that they can be relabelled."""
    for path in [*write_colours(folder()).glob("*/*.jpg")]:
        path.rename(path.with_name(f"{path.parent.name}{path.name}"))


def run_scan() -> None:
    found = scan.scan_folder("colours", folder())
    dataset.write(found)
    split.write(found, split.split(found))


def run_relabel() -> None:
    notes = Annotations(scan.scan_folder("colours", folder()))
    if "odd" not in notes.labels:
        notes.add_label("odd")
    in_order = sorted(range(len(notes.images)), key=lambda i: notes.images[i].sha256)
    for k in range(0, len(in_order), 3):
        label = ("odd", *COLOURS)[k % 4]
        if moved := [i for i in in_order[k : k + 3] if notes.images[i].label != label]:
            notes.relabel(moved, label)
        if not notes.is_excluded(in_order[k]):
            notes.exclude(in_order[k : k + 1])


def prepare_network() -> None:
    prepare_images()
    run_scan()
    write_tiny_network(proc() / files.FIXED_NETWORK)


def run_features() -> None:
    network = proc() / files.FIXED_NETWORK
    cache = features.Cache.for_network("colours", network)
    features.compute(dataset.read("colours"), network, cache, batch_size=2, shard_images=2)


def small() -> Backbone:
    """The first two stages of EfficientNet-Lite0 with random weights."""
    return Backbone("small", SIZE, LiteArchitecture(1.0, LITE_STAGES[:2]), file=BASE / "small.pth")


def prepare_finetune() -> None:
    prepare_images()
    run_scan()
    torch.manual_seed(0)
    torch.save(small().architecture.network().state_dict(), BASE / "small.pth")
    backbones.write(small(), Preprocessing(SIZE), proc() / files.FIXED_NETWORK)


def run_finetune() -> None:
    finetune.finetune(
        "colours", "", "dnn", small(), recipe.Recipe(epochs=3, batch_size=8, trainable_stages="all")
    )


def prepare_export() -> None:
    prepare_network()
    run_features()


def run_export() -> None:
    found, network = dataset.read("colours"), proc() / files.FIXED_NETWORK
    parts = split.read(found)
    train = features.Cache.for_network("colours", network).features(parts.train)
    search = heads.train(
        "colours", "svm", train, parts.train, parts.clusters_of(train.images), c_values=[0.1, 1.0]
    )
    held_out = suspects.out_of_fold_evaluation(search, train.images, parts.cluster)
    report.write_scores(held_out, proc() / files.HELD_OUT)
    self_test = export.make_self_test(found, train.images, network, search.head)
    export.write(
        proc() / files.CLASSIFIER,
        network,
        search.head,
        self_test,
        metadata={"training_images": len(train.images)},
    )
    svm.write(search.head, proc() / files.SVM_HEAD)
    Classifier.load(proc() / files.CLASSIFIER)


def prepare_sweep() -> None:
    prepare_images()
    write_tiny_network(files.data_dir() / "tiny.onnx")


def run_sweep() -> None:
    sweep.execute = in_this_process
    tracking.hand_in_all = str  # MLflow's database is no part of what is compared
    sweep.run("colours", "", f"backbone: {files.data_dir() / 'tiny.onnx'}; input_size: 32; svm_c: 0.1, 1")


def in_this_process(path: Path, folder: Path, values: dict[str, Any], **_: Any) -> float:
    """Run the cells of a notebook without a kernel, whose start would take most of the time."""
    import nbformat

    shell = InteractiveShell.instance()
    shell.reset(new_session=False)
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            shell.run_cell(cell.source).raise_error()
            if notebooks.TAG in cell.metadata.get("tags", ()):
                shell.push({name: value for name, value in values.items() if name in shell.user_ns})
    return 0.0


WORKS: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
    "search": (prepare_search, run_search),
    "fetch": (prepare_fetch, run_fetch),
    "scan": (prepare_images, run_scan),
    "relabel": (prepare_images, run_relabel),
    "features": (prepare_network, run_features),
    "finetune": (prepare_finetune, run_finetune),
    "export": (prepare_export, run_export),
    "sweep": (prepare_sweep, run_sweep),
}


def start(work: Callable[[], object]) -> int:
    """Fork a process that does some work, and return its id; what it prints goes to a log."""
    if pid := os.fork():
        return pid
    log = os.open(BASE / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    try:
        work()
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def is_killed(work: Callable[[], object], seconds: float) -> bool:
    """Do some work, killed after some seconds; False if it was done before."""
    pid, end = start(work), time.monotonic() + seconds
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
            break
        time.sleep(0.0005)
    if os.waitstatus_to_exitcode(ended[1]) not in (0, -signal.SIGKILL):
        raise SystemExit(f"failed:\n{(BASE / 'log').read_text()}")
    return os.WIFSIGNALED(ended[1])


def do(work: Callable[[], object]) -> float:
    """Do some work to its end, and return the seconds."""
    begin = time.monotonic()
    if is_killed(work, TIMEOUT_SECONDS):
        raise SystemExit(f"not done in {TIMEOUT_SECONDS} s:\n{(BASE / 'log').read_text()}")
    return time.monotonic() - begin


def state() -> dict[str, Any]:
    """Everything in the data folder that two runs must have in common, by path."""
    found: dict[str, Any] = {}
    for path in sorted(files.data_dir().rglob("*")):
        name = path.relative_to(files.data_dir()).as_posix()
        if (
            not path.is_file()
            or path.name in (".lock", ".annotations.lock")
            or name.startswith(("runs/", "mlflow"))
        ):
            continue
        if (
            path.suffix == ".npz" and path.parent.parent.name == "features"
        ):  # shards differ, the features of each image do not
            arrays = files.read_npz(path)
            for sha256, vector in zip(arrays["sha256"].tolist(), arrays["features"], strict=True):
                key = f"{path.parent} {sha256}"
                found[key] = [*found.get(key, []), vector]  # one of each
        elif path.name == JOURNAL:
            found[name] = [{**json.loads(line), "time": ""} for line in path.read_text().splitlines()]
        elif path.name == failures.FILE:
            found[name] = sorted(path.read_text().splitlines())
        elif path.name == files.TRIAL_RECORD:
            found[name] = {**json.loads(path.read_text()), "milliseconds": 0}
        elif path.parent.name == provenance.FOLDER:
            found[name] = {**json.loads(path.read_text()), **cost.UNKNOWN}
        elif path.name != recording.REPORT:  # it says when it was made
            found[name] = path.read_bytes()
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The paths at which two states differ."""

    def equal(value: Any, expected: Any) -> bool:
        if isinstance(value, list) and isinstance(value[0], np.ndarray):
            return len(value) == len(expected) and np.allclose(value, expected, rtol=1e-5, atol=1e-6)
        return value == expected

    return [
        name
        for name in sorted({*one, *other})
        if name not in one or name not in other or not equal(one[name], other[name])
    ]


def series(name: str, kills: int, seed: int) -> str:
    """Kill a work so many times; return a line about it."""
    prepare, run = WORKS[name]
    data, template, draw = files.data_dir(), BASE / "template", random.Random(f"{name} {seed}")
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    do(prepare)
    shutil.rmtree(template, ignore_errors=True)
    shutil.copytree(data, template)

    def anew() -> None:
        shutil.rmtree(data)
        shutil.copytree(template, data)

    do(lambda: (run(), (BASE / "modules").write_text("\n".join(sys.modules))))
    expected = state()
    for module in (BASE / "modules").read_text().split("\n"):
        with suppress(ImportError):
            importlib.import_module(module)
    seconds = []
    for _ in range(3):
        anew()
        seconds.append(do(run))
        if differing := differences(state(), expected):
            raise SystemExit(f"{name}: two undisturbed runs differ in {differing}")
    done, begin, parts = 0, time.monotonic(), 0
    while done < kills:
        anew()
        moment = draw.uniform(0, sorted(seconds)[1])
        if not is_killed(run, moment):
            continue
        done += 1
        left = [*data.rglob(".*.part")]
        parts += len(left)
        for path in left:  # the next run is the day after tomorrow
            os.utime(path, (time.time() - 2 * DAY,) * 2)
        do(run)
        if differing := differences(state(), expected):
            raise SystemExit(
                f"{name}, kill {done} with seed {seed}, after {moment:.4f} s: {differing} differ; see {data}"
            )
    return (
        f"{name:<9} {kills} kills within {sorted(seconds)[1]:.2f} s of work, {parts} temporary files, "
        f"the same end each time; {time.monotonic() - begin:.0f} s"
    )


def serve_files() -> None:
    """Serve BASE/served until the parent ends."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(BASE / "served"))

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    (BASE / "port").write_text(str(server.server_address[1]))
    server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("works", nargs="*", choices=[*WORKS, []], metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    server = start(serve_files)
    try:
        while not (BASE / "port").exists():
            time.sleep(0.01)
        for name in chosen.works or WORKS:
            print(series(name, chosen.kills, chosen.seed), flush=True)
        shutil.rmtree(BASE)
    finally:
        os.kill(server, signal.SIGKILL)


if __name__ == "__main__":
    main()
