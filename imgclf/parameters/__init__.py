"""The parameters of the notebooks: their table, checks of their values, and values as text."""

import ast
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imgclf import ImgclfError
from imgclf.files import absolute
from imgclf.parameters.table import ALL, DNN, PARAMETERS, SVM, SVM_ON_REFINED, Parameter, Value

__all__ = [
    "ALL",
    "DNN",
    "PARAMETERS",
    "SVM",
    "SVM_ON_REFINED",
    "Parameter",
    "Value",
    "announce",
    "check",
    "check_together",
    "code",
    "for_notebook",
    "from_namespace",
    "idle",
    "literal",
    "nearest",
    "parse",
]

INJECTED = "# Parameters"  # papermill begins the cell with its parameters so
MOST_REPEATS = 1000  # of a list; the largest number of epochs


def check(name: str, value: Any) -> Value:
    """Return the value of a parameter, a synonym of the tutorial as our name for it.

    Raises
    ------
    ImgclfError : unknown parameter, wrong type, or a value that is not allowed; names the allowed ones.
    """
    if name not in PARAMETERS:
        names = {p.tutorial: p.name for p in PARAMETERS.values()} | {known: known for known in PARAMETERS}
        raise ImgclfError(
            f"unknown parameter '{name}'{nearest(name, names)}; the parameters are {', '.join(PARAMETERS)}"
        )
    parameter = PARAMETERS[name]
    value = parameter.synonyms.get(value, value) if isinstance(value, str) else value
    fits = {
        "str": lambda v: isinstance(v, str),
        "bool": lambda v: isinstance(v, bool),
        "int": _is_whole,
        "float": _is_number,
        "list[float]": lambda v: isinstance(v, list) and bool(v) and all(map(_is_number, v)),
    }[parameter.type]
    if name == "dataset_name" and isinstance(value, str) and not re.fullmatch(r"[^/\\.\0][^/\\\0]*", value):
        raise ImgclfError(
            f"dataset_name={value!r}: must be the name of one folder, "
            "without slashes, not beginning with a dot"
        )
    numbers = value if isinstance(value, list) else [value]
    if not fits(value) or not parameter.allows(value) or not all(_in_limits(parameter, n) for n in numbers):
        meant = nearest(value, {known: known for known in parameter.allowed})
        raise ImgclfError(f"{name}={value!r}: must be {parameter.expected}{meant}{_remedy(parameter, value)}")
    return value


def nearest(typed: Any, meant: Mapping[str, str]) -> str:
    """Return " (did you mean …?)" for a mistyped word, given words and their meanings; else an empty text."""
    known = {word.lower(): name for word, name in meant.items() if word}
    typed = typed.lower().replace("-", "_") if isinstance(typed, str) else ""
    found = difflib.get_close_matches(typed, known, n=1)
    return f" (did you mean {known[found[0]]}?)" if found else ""


def _remedy(parameter: Parameter, value: Any) -> str:
    """Return how to give papermill a value that it took for a number; else an empty text."""
    if not _is_number(value):
        return ""
    return {
        "str": f"; with papermill, -r {parameter.name} {value} gives it as text",
        "list[float]": f'; with papermill, -y "{parameter.name}: [{value}]" gives a list',
    }.get(parameter.type, "")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float)


def _in_limits(parameter: Parameter, value: Any) -> bool:
    return (
        (parameter.above is None or value > parameter.above)
        and (parameter.minimum is None or value >= parameter.minimum)
        and (parameter.maximum is None or value <= parameter.maximum)
    )


def parse(assignments: Iterable[str]) -> dict[str, Value]:
    """Return the checked values of `NAME=VALUE` texts, as given on the command line.

    Raises
    ------
    ImgclfError : no "=", an unknown name, one that is given twice, or a value that is not allowed.
    """
    values: dict[str, Value] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ImgclfError(f"'{assignment}' is not NAME=VALUE")
        if name in values:
            raise ImgclfError(f"{name} is given twice, the second time as '{assignment}'; give it once")
        values[name] = check(name, _literal(name, text))
    return values


def _literal(name: str, text: str) -> Any:
    kind = PARAMETERS[name].type if name in PARAMETERS else "str"
    is_file = name in PARAMETERS and Path(text).suffix in PARAMETERS[name].suffixes
    if text and (name == "images_dir" or is_file):
        return str(absolute(text, source=name))  # notebooks run in a folder of their own
    if kind == "str":
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        source = f"[{text}]" if kind == "list[float]" and "[" not in text else text.strip()
        value = literal(ast.parse(source, mode="eval").body)
    except (ValueError, SyntaxError):
        return text
    return float(value) if kind == "float" and _is_whole(value) else value


def literal(node: ast.expr) -> Any:
    """Return the value of a literal, or of lists as in the tutorial: `[0.01]*20 + [0.001]*20`.

    Raises
    ------
    ValueError : any other expression.
    """
    if not isinstance(node, ast.BinOp):
        return ast.literal_eval(node)
    left, right = literal(node.left), literal(node.right)
    if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
        return left + right
    if (
        isinstance(node.op, ast.Mult)
        and isinstance(left, list)
        and _is_whole(right)
        and right <= MOST_REPEATS
    ):
        return left * right
    raise ValueError("neither a literal nor lists")


def for_notebook(number: str) -> list[Parameter]:
    """Return the parameters of a notebook, given by its number such as "05"."""
    return [parameter for parameter in PARAMETERS.values() if number in parameter.notebooks]


def from_namespace(namespace: Mapping[str, Any], *, without: str = "") -> dict[str, Value]:
    """Return the checked parameters of a notebook from its `globals()`, except the one named `without`."""
    return {
        name: check(name, namespace[name]) for name in PARAMETERS if name in namespace and name != without
    }


def check_together(values: Mapping[str, Value]) -> None:
    """Refuse values that are allowed alone but not together.

    Raises
    ------
    ImgclfError : `images_dir` is given with the name of the demo set, whose results it would overwrite.
    """
    demo = PARAMETERS["dataset_name"].default
    if values.get("images_dir") and values.get("dataset_name") == demo:
        raise ImgclfError(
            f"images_dir is given, but dataset_name is still '{demo}', the demo set; "
            "give your images a name: dataset_name=fruit"
        )


def idle(name: str, values: Mapping[str, Value]) -> str:
    """Return a sentence if a parameter does not change the classifier with these values of others; else "".

    Examples
    --------
    >>> idle("epochs", {"epochs": 9, "classifier": "svm"})
    "epochs = 9 has no effect on the classifier with classifier = 'svm'"
    """
    for other, without in PARAMETERS[name].idle_with.items() if name in PARAMETERS else ():
        if other in values and values[other] in without:
            return (
                f"{name} = {values.get(name)!r} has no effect on the classifier "
                f"with {other} = {values[other]!r}"
            )
    return ""


def announce(namespace: dict[str, Any]) -> None:
    """Check the parameters of a notebook and print those that differ from their defaults.

    Parameters
    ----------
    namespace : the notebook's `globals()`; the tutorial's synonyms in it are replaced by our names.

    Raises
    ------
    ImgclfError : a name or a value in the parameters cell, or given to papermill, is not allowed.
    """
    _check_names(namespace.get("In", ()))
    values = from_namespace(namespace)
    check_together(values)
    namespace.update(values)
    changed = {name: value for name, value in values.items() if value != PARAMETERS[name].default}
    lines = [idle(name, values) or f"{name} = {value!r}" for name, value in changed.items()]
    print("\n".join(lines) or "all parameters have their defaults")


def _check_names(sources: Iterable[str]) -> None:
    """Refuse names that the last parameters cell, or papermill in its own cell below, sets in vain.

    Parameters
    ----------
    sources : of the cells that ran, as IPython's `In` has them.
    """
    given: list[str] = []
    injected: list[str] = []
    for source in sources:
        names = _assigned(source)
        if source.startswith(INJECTED):
            injected = names
        elif names and re.search("^dataset_name: ", source, re.MULTILINE):  # a scratch cell has no types
            given, injected = names, []
    own = [name for name in PARAMETERS if name in given]
    for name in (*given, *injected) if own else ():
        if name not in own:
            where = f" (it is one of {', '.join(PARAMETERS[name].notebooks)})" if name in PARAMETERS else ""
            raise ImgclfError(
                f"parameter '{name}': this notebook has none of that name"
                f"{where or nearest(name, dict(zip(own, own, strict=True)))}; it has {', '.join(own)}"
            )


def _assigned(source: str) -> list[str]:
    """Return the names that a cell sets, if it does nothing else."""
    try:
        lines = ast.parse(source).body
    except SyntaxError:  # as of a magic command
        return []
    targets = [
        line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None) for line in lines
    ]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(lines) else []


def code(value: Value) -> str:
    """Return a value as Python source, as it is written in a notebook."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
