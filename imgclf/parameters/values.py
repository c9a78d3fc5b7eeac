"""Values of parameters: checks, and values as text."""

import ast
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgclf import ImgclfError
from imgclf.files import absolute
from imgclf.images import stores
from imgclf.parameters.table import PARAMETERS, Parameter, Value

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
    if name == "images_dir" and isinstance(value, str) and stores.is_url(value):
        stores.checked(value, source=name)
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
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _in_limits(parameter: Parameter, value: Any) -> bool:
    return (parameter.or_zero and value == 0) or (
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
        try:
            values[name] = check(name, _literal(name, text))
        except ImgclfError as error:
            raise ImgclfError(f"{error}{_decimal_comma(name, text)}") from error
    return values


def _decimal_comma(name: str, text: str) -> str:
    """Return a hint if a number may be meant that is written with a decimal comma; else an empty text."""
    is_number = name in PARAMETERS and PARAMETERS[name].type in ("float", "list[float]")
    if not is_number or not re.fullmatch(r"\s*\d+,\d+\s*", text):
        return ""
    return f"; decimals have a point: write {name}={text.strip().replace(',', '.')}"


def _literal(name: str, text: str) -> Any:
    kind = PARAMETERS[name].type if name in PARAMETERS else "str"
    is_file = name in PARAMETERS and Path(text).suffix in PARAMETERS[name].suffixes
    if name == "images_dir" and stores.is_url(text):
        return text
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


def default(name: str, number: str = "") -> Value:
    """Return the default of a parameter, in the notebook with that number if it has one of its own there."""
    return PARAMETERS[name].default_in.get(number, PARAMETERS[name].default)


def for_notebook(number: str) -> list[Parameter]:
    """Return the parameters of a notebook, given by its number such as "05", with their defaults there."""
    return [
        replace(parameter, default=default(parameter.name, number))
        for parameter in PARAMETERS.values()
        if number in parameter.notebooks
    ]


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


def code(value: Value) -> str:
    """Return a value as Python source, as it is written in a notebook."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
