"""`imgclf.toml`: the parameters of a project, in a file that people edit too. Reading it runs no code."""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imgclf import ImgclfError, files
from imgclf.images import stores
from imgclf.parameters.table import PARAMETERS, Value
from imgclf.parameters.values import check, check_together

MOST_BYTES = 2**20
LOCK = f".{files.PROJECT_FILE}.lock"  # held while the file is changed
FIXED = "IMGCLF_PROJECT_VALUES"  # environment variable: the values that a run in progress began with
IMAGES = ("dataset_name", "images_dir")  # the parameters that name them
HEAD = """\
# The parameters of this project. Commands and notebooks that start in this folder, or below it, use them.
#
# A line that begins with "#" has no effect, and the parameter has its default. To set one, remove the "#" and
# write your value, or run: imgclf set NAME=VALUE
# A value in the parameters cell of a notebook, or one given with -p, takes precedence.
"""
NO_PROJECT = (
    f"no {files.PROJECT_FILE} in this folder or above it; make a project with imgclf new FOLDER and run this "
    "in it, or give the values to one run: imgclf run -p NAME=VALUE"
)


@contextmanager
def fixed() -> Iterator[None]:
    """Keep the values that `imgclf.toml` has now until the block ends, also in kernels that it starts.

    A change of the file, as by `imgclf set` while notebooks run, counts from the next run on. A block within
    another one keeps the values of that.

    Raises
    ------
    ImgclfError : see `read`.
    """
    if FIXED in os.environ:
        yield
        return
    os.environ[FIXED] = json.dumps(read())
    try:
        yield
    finally:
        os.environ.pop(FIXED, None)


def read() -> dict[str, Value]:
    """Return the checked values in the `imgclf.toml` of the project; none without a project.

    Relative paths are those from the folder of the project. In a run, the values are those it began with; see
    `fixed`.

    Raises
    ------
    ImgclfError : the file cannot be read, is no TOML, or has an unknown name or a value that is not allowed.
    """
    if FIXED in os.environ:
        return dict(json.loads(os.environ[FIXED]))
    folder = files.project_dir()
    return _checked(_text(folder), folder) if folder else {}


def new(values: Mapping[str, Value]) -> str:
    """Return the text of a new file: each parameter with its meaning and default, those in `values` set."""
    return HEAD + "".join(_entry(name, values.get(name)) for name in PARAMETERS)


def change(changes: Mapping[str, Value] | None) -> bool:
    """Set parameters in the `imgclf.toml` of the project, and keep all other lines.

    Parameters
    ----------
    changes : None restores the defaults of all parameters but those that name the images.

    Returns
    -------
    Whether the file changed.

    Raises
    ------
    ImgclfError : there is no project, or the file as it would be is not allowed; then it stays as it was.
    """
    folder = files.project_dir()
    if not folder:
        raise ImgclfError(NO_PROJECT)
    with _locked(folder):
        before = after = _text(folder)
        _loaded(before, folder)
        if changes is None:
            after = _without_values(before)
        for name, value in (changes or {}).items():
            after = _with_value(after, name, _from(folder, value))
        defaults = {name: each.default for name, each in PARAMETERS.items()}
        check_together({**defaults, **_checked(after, folder)})
        if after != before:
            files.write_text(folder / files.PROJECT_FILE, after)
    return after != before


def add_missing(folder: Path) -> list[str]:
    """Add the parameters that a file does not mention, as comments; return their names.

    Raises
    ------
    ImgclfError : the file cannot be read, or is not allowed.
    """
    with _locked(folder):
        text = _text(folder)
        stored = _checked(text, folder)
        missing = [name for name in PARAMETERS if name not in stored and not _comment(name).search(text)]
        if missing:
            added = "".join(_entry(name, None) for name in missing)
            files.write_text(folder / files.PROJECT_FILE, (text.rstrip() or HEAD.rstrip()) + "\n" + added)
    return missing


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process changes the file, and let none change it in the block."""
    with files.writable(folder / LOCK):
        held = files.acquire(folder / LOCK, seconds=-1)
    try:
        yield
    finally:
        held.release()


def _entry(name: str, value: Value | None) -> str:
    """Return the lines of a parameter; as a comment with its default if the value is None."""
    parameter = PARAMETERS[name]
    is_list = parameter.type == "list[float]"
    kind = parameter.expected.replace("comma-separated numbers", "numbers in brackets")
    kind = kind if is_list else kind.replace("True or False", "true or false")
    assigned = _assignment(name, value) if value is not None else f"# {_assignment(name, parameter.default)}"
    return f"\n# {parameter.meaning}\n# {kind}; default {_toml(parameter.default)}\n{assigned}\n"


def _assignment(name: str, value: Value) -> str:
    return f"{name} = {_toml(value)}"


def _toml(value: Value) -> str:
    import tomlkit  # here, since the service needs no project

    return tomlkit.item(value).as_string()


def _comment(name: str) -> re.Pattern[str]:
    return re.compile(rf"^#[ \t]*({name}[ \t]*=[^\r\n]*)", re.MULTILINE)


def _with_value(text: str, name: str, value: Value) -> str:
    """Return the text with a parameter set where it stands, also in a comment; else at the end."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    document = tomlkit.parse(text)
    if name in document:
        document[name] = value
        return tomlkit.dumps(document)
    found = _comment(name).search(text)
    if not found:
        return text.rstrip() + "\n" + _entry(name, value)
    try:
        line = tomlkit.parse(found[1])  # with a remark behind the value
        line[name] = value
        assigned = tomlkit.dumps(line)
    except TOMLKitError:
        assigned = _assignment(name, value)
    return text[: found.start()] + assigned + text[found.end() :]


def _without_values(text: str) -> str:
    """Return the text with each parameter but those of `IMAGES` as a comment with its default."""
    import tomlkit

    document = tomlkit.parse(text)
    set_names = [name for name in PARAMETERS if name in document and name not in IMAGES]
    for name in set_names:
        document[name] = PARAMETERS[name].default  # in one line
    text = tomlkit.dumps(document)
    for name in set_names:
        text = re.sub(rf"^[ \t]*[\"']?({name})[\"']?(?=[ \t]*=)", r"# \1", text, count=1, flags=re.MULTILINE)
    return text


def _text(folder: Path) -> str:
    path = folder / files.PROJECT_FILE
    try:
        return files.read_bytes(path, max_bytes=MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImgclfError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _loaded(text: str, folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number of 5,000 digits
        raise ImgclfError(
            f"{folder / files.PROJECT_FILE}: {error}; correct it there: NAME = VALUE, texts in quotation "
            "marks, numbers with a decimal point"
        ) from error


def _checked(text: str, folder: Path) -> dict[str, Value]:
    values = {}
    for name, value in _loaded(text, folder).items():
        try:
            values[name] = check(name, _converted(name, value, folder))
        except (ImgclfError, ValueError, OverflowError) as error:  # OverflowError: a number of 400 digits
            place = f"{folder / files.PROJECT_FILE}{_line(text, name)}"
            raise ImgclfError(f"{place}: {error}; correct it there") from error
    return values


def _line(text: str, name: str) -> str:
    start = re.compile(rf"\s*\[*\s*[\"']?{re.escape(name)}[\"']?\s*[=.\]]")
    return next((f", line {n}" for n, line in enumerate(text.splitlines(), 1) if start.match(line)), "")


def _converted(name: str, value: Any, folder: Path) -> Any:
    """Return a value from TOML as the notebooks have it: paths absolute, a number as text or in a list."""
    if name not in PARAMETERS:
        return value
    kind, suffixes = PARAMETERS[name].type, PARAMETERS[name].suffixes
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"str": str(value), "float": float(value), "list[float]": [value]}.get(kind, value)
    if isinstance(value, str) and stores.is_url(value):
        return value
    if isinstance(value, str) and value and (name == "images_dir" or Path(value).suffix in suffixes):
        return str(files.absolute(value if value.startswith("~") else str(folder / value), source=name))
    return value


def _from(folder: Path, value: Value) -> Value:
    """Return a path in the project as a relative one, so that the project can be moved; else the value."""
    is_below = isinstance(value, str) and Path(value).is_absolute() and Path(value).is_relative_to(folder)
    return Path(str(value)).relative_to(folder).as_posix() if is_below else value
