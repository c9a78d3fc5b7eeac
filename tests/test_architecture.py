"""The house: imports go down the floors, nothing heavy is loaded unasked, and the rules of size and docstrings hold."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import imgclf

PACKAGE = Path(imgclf.__file__).parent
FLOORS = {
    5: "cli sequence sweep",
    4: "widgets pictures gallery results service",
    3: "evaluation report thresholds calibration findings comparison trials",
    2: "features svm classifier verification predictions lessons training refine refined convert cntk_training",
    1: "backbones architectures efficientnet_lite resnet weights foreign onnx_graph engines tail cntk",
    0: "parameters dataset scan steps journal annotations dedicated manifest fetch web images thumbnails duplicates split demo files augment recipe curve checkpoint",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 40
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
HEAVY = ("torch", "openvino", "onnxruntime", "onnx", "bqplot", "ipywidgets", "mlflow", "sklearn", "matplotlib", "dask", "fastapi", "uvicorn")
LATE = ("torch", "openvino", "onnxruntime", "bqplot", "ipywidgets", "IPython", "matplotlib", "mlflow", "dask", "fastapi", "uvicorn")

each_source = pytest.mark.parametrize("path", [PACKAGE / "__init__.py", *SOURCES], ids=lambda path: path.relative_to(PACKAGE).as_posix())


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
            start = ".".join([*package[:len(package) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
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
    return function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


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
    assert room(path) == "widgets" or not packages & {"ipywidgets", "bqplot", "IPython", "anywidget"}


@each_source
def test_modules_have_under_300_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES


@each_source
def test_functions_have_at_most_40_lines(path):
    assert {f.name: length(f) for f in functions(path) if length(f) > MOST_LINES_OF_A_FUNCTION} == {}


@each_source
def test_module_and_its_public_functions_and_classes_have_docstrings(path):
    module = tree(path)
    public = [node for node in module.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")]
    assert ast.get_docstring(module)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@each_source
def test_modules_are_named_after_terms_of_the_field(path):
    assert path.stem not in {"utils", "helpers", "common", "misc", "manager", "factory", "base", "config"}


def test_ground_floor_loads_nothing_heavy():
    ground = ", ".join(f"imgclf.{name}" for name in FLOORS[0].split())
    code = f"import sys, {ground}; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_learning_and_judging_load_no_engine_no_torch_and_no_widgets_and_start_no_thread():
    learning = ", ".join(f"imgclf.{name}" for floor in (1, 2, 3) for name in FLOORS[floor].split() if name not in ("efficientnet_lite", "resnet"))
    code = f"import sys, threading, {learning}, imgclf.cli; print([name for name in {LATE} if name in sys.modules], threading.active_count())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[] 1\n"
