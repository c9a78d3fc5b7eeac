"""The house: imports go down the floors, the tests and CONTRIBUTING have the same rooms, nothing heavy is loaded unasked, and the rules of size and docstrings hold."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import imgclf
from support.project import PROJECT, ROOT

PACKAGE = Path(imgclf.__file__).parent
FLOORS = {
    7: "cli",
    6: "widgets service",
    5: "plots annotation",
    4: "experiments",
    3: "evaluation",
    2: "classifier",
    1: "finetuning svm features networks collect",
    0: "engines cntk data images downloads parameters files",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 500, 60
MOST_NAMES = 22  # in the package's own folder
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
HEAVY = (
    "torch",
    "openvino",
    "onnxruntime",
    "onnx",
    "bqplot",
    "ipywidgets",
    "mlflow",
    "sklearn",
    "matplotlib",
    "dask",
    "fastapi",
    "fsspec",
    "botocore",
    "uvicorn",
)
LATE = (
    "torch",
    "openvino",
    "onnxruntime",
    "bqplot",
    "ipywidgets",
    "IPython",
    "matplotlib",
    "mlflow",
    "dask",
    "fastapi",
    "uvicorn",
)

each_source = pytest.mark.parametrize(
    "path", [PACKAGE / "__init__.py", *SOURCES], ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path: Path) -> str:
    """The module, or the subpackage, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The full names of all that a file imports, also inside functions."""
    package = ["imgclf", *path.relative_to(PACKAGE).parent.parts]
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = (
                ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            names |= {f"{start}.{alias.name}" for alias in node.names}
    return names


def rooms_used(path: Path) -> set[str]:
    """The other rooms of the house that a file imports from."""
    parts = [name.split(".") for name in imported(path)]
    return {p[1] for p in parts if p[0] == "imgclf" and len(p) > 1 and p[1] in FLOOR} - {room(path)}


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]


def length(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    return (
        function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)
    )


def test_every_module_has_a_floor():
    assert {room(path) for path in SOURCES} == set(FLOOR)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down_the_floors_or_stay(path):
    upwards = {used for used in rooms_used(path) if FLOOR[used] > FLOOR[room(path)]}
    assert not upwards


def test_rooms_do_not_import_each_other_in_a_circle():
    uses = {name: set() for name in FLOOR}
    for path in SOURCES:
        uses[room(path)] |= rooms_used(path)
    assert len(list(TopologicalSorter(uses).static_order())) == len(FLOOR)  # raises CycleError


def test_the_ground_of_all_imports_no_room():
    assert not {name for name in imported(PACKAGE / "__init__.py") if name.startswith("imgclf")}


@each_source
def test_only_widgets_import_what_draws_them(path):
    packages = {name.split(".")[0] for name in imported(path)}
    assert room(path) == "widgets" or not packages & {"ipywidgets", "bqplot", "anywidget"}
    assert room(path) in ("widgets", "plots") or "IPython" not in packages  # figures show themselves


@each_source
def test_modules_have_under_500_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES


@each_source
def test_functions_have_at_most_60_lines(path):
    assert {f.name: length(f) for f in functions(path) if length(f) > MOST_LINES_OF_A_FUNCTION} == {}


@each_source
def test_module_and_its_public_functions_and_classes_have_docstrings(path):
    module = tree(path)
    public = [
        node
        for node in module.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    assert ast.get_docstring(module)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@each_source
def test_modules_are_named_after_terms_of_the_field(path):
    assert path.stem not in {"utils", "helpers", "common", "misc", "manager", "factory", "base", "config"}


def loaded_by(modules: list[str], watched: tuple[str, ...]) -> str:
    """Which of the `watched` packages importing modules loads, and how many threads run then."""
    code = f"import sys, threading, {', '.join(modules)}; print([name for name in {watched} if name in sys.modules], threading.active_count())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def modules_of(*rooms: str) -> list[str]:
    """The full names of all modules of some rooms."""
    return [
        ".".join(["imgclf", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for path in SOURCES
        if room(path) in rooms
    ]


def test_data_images_and_the_command_line_load_nothing_heavy():
    assert (
        loaded_by(modules_of("data", "images", "collect", "downloads", "parameters", "files", "cli"), HEAVY)
        == "[] 1\n"
    )


def test_learning_and_judging_load_no_engine_no_torch_and_no_widgets_and_start_no_thread():
    modules = modules_of(
        "finetuning", "svm", "features", "networks", "classifier", "evaluation", "annotation"
    )
    built_of_torch = {
        f"imgclf.networks.{name}"
        for name in (
            "convnext",
            "copy_descriptor",
            "efficientnet_lite",
            "hub.encoder",
            "inverted_residual",
            "layers",
            "resnet",
        )
    }
    assert loaded_by(sorted(set(modules) - built_of_torch), LATE) == "[] 1\n"


def test_the_service_loads_no_package_that_its_container_lacks():
    in_container = {
        canonicalize_name(line) for line in (ROOT / "deploy" / "requirements.txt").read_text().split("\n")
    }
    needed = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    lacking = sorted(
        module
        for module, distributions in packages_distributions().items()
        if needed & {*map(canonicalize_name, distributions)} - in_container
    )
    assert "cleanlab" in lacking
    assert loaded_by([*modules_of("service"), "imgclf.cli"], tuple(lacking)).startswith("[] ")


def test_a_classifier_is_opened_with_images_and_engines_alone():
    opened = PACKAGE / "classifier" / "model.py"
    assert rooms_used(opened) <= {"images", "engines", "files"}


def test_the_house_is_seen_at_a_glance():
    shown = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(shown) <= MOST_NAMES, sorted(shown)


def test_each_room_has_its_tests_under_the_same_name():
    tests = Path(__file__).parent
    assert [
        name for name in FLOOR if not ((tests / name).is_dir() or (tests / f"test_{name}.py").exists())
    ] == []


def test_contributing_shows_the_same_floors():
    plan = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = {
        int(floor): set(re.findall(r"`(\w+)/?`", rooms))
        for floor, rooms in re.findall(r"^\| (\d) \| ([^|]+) \|", plan, re.MULTILINE)
    }
    assert shown == {floor: set(rooms.split()) for floor, rooms in FLOORS.items()}


def test_tests_share_helpers_by_the_folder_support_alone():
    tests = Path(__file__).parent
    borrowed = re.compile(r"^\s*(?:from|import) (?:test_\w+|conftest|\.)", re.MULTILINE)
    assert [
        path.name for path in tests.rglob("*.py") if borrowed.search(path.read_text(encoding="utf-8"))
    ] == []
