"""Which value a parameter has: the one given, else the one edited in the notebook, else that of the project's
`imgclf.toml`, else the default."""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imgclf import ImgclfError
from imgclf.files import PROJECT_FILE
from imgclf.parameters import project_file
from imgclf.parameters.table import PARAMETERS, Value
from imgclf.parameters.values import check, check_together, default, from_namespace, idle, nearest

GIVEN, NOTEBOOK, PROJECT, DEFAULT = "-p", "this notebook", PROJECT_FILE, "default"  # sources of a value

INJECTED = "# Parameters"  # papermill begins the cell with its parameters so
# In the namespace of a notebook: what `announce` took from the project, and what the cell had.
TAKEN = "_from_project"


@dataclass(frozen=True)
class Setting:
    """The value of a parameter, and the source of it.

    Attributes
    ----------
    source : `GIVEN`, `NOTEBOOK`, `PROJECT` or `DEFAULT`.
    is_default : whether neither the value nor that of the project differs from the default.
    """

    value: Value
    source: str
    is_default: bool


def resolve(
    given: Mapping[str, Any], cell: Mapping[str, Any], names: Iterable[str], *, number: str = ""
) -> dict[str, Setting]:
    """Return the checked values of parameters, each from the source with the highest precedence.

    Parameters
    ----------
    given : to papermill, or to a command with -p. They count even if they equal the default.
    cell : values in the parameters cell of a notebook. One that equals the default counts as not edited. A
        name that the cell lacks has its default: the notebook does not take it.
    number : of the notebook, such as "08", which may have defaults of its own.

    Raises
    ------
    ImgclfError : a value is not allowed, or the `imgclf.toml` cannot be read.
    """
    stored = project_file.read()
    if stored.get("images_dir"):  # 08 must not add images to a data set that is used in place
        stored = {key: value for key, value in stored.items() if number not in PARAMETERS[key].default_in}
    settings = {}
    for name in names:
        usual = default(name, number)
        own, of_project = cell.get(name, usual), stored.get(name, usual) if name in cell else usual
        if name in given:
            value, source = given[name], GIVEN
        elif own != usual:
            value, source = own, NOTEBOOK
        else:
            value, source = of_project, PROJECT if of_project != usual else DEFAULT
        value = check(name, value)
        settings[name] = Setting(value, source, value == of_project == usual)
    return settings


def announce(namespace: dict[str, Any], number: str = "") -> None:
    """Set the parameters of a notebook, and print those that differ from their defaults with their sources.

    Parameters
    ----------
    namespace : the notebook's `globals()`. Values of the project are set in it, and the tutorial's synonyms
        are replaced by our names.
    number : of the notebook.

    Raises
    ------
    ImgclfError : a name or a value in the parameters cell, given to papermill or in the `imgclf.toml`, is not
        allowed.
    """
    ran, injected = _check_names(namespace.get("In", ()))
    cell = from_namespace(namespace)
    # Only the first cell may run again: what it set from the project before is no edit of the notebook.
    for name, (value, before) in namespace.get(TAKEN, {}).get(ran, {}).items():
        if name not in injected and cell.get(name) == value:
            cell[name] = before
    given = {name: cell[name] for name in injected if name in cell}
    settings = resolve(given, cell, cell, number=number)
    values = {name: setting.value for name, setting in settings.items()}
    check_together(values)
    namespace.update(values)
    namespace[TAKEN] = {
        ran: {name: (values[name], cell[name]) for name in values if settings[name].source == PROJECT}
    }
    print(
        "\n".join(
            _line(name, setting, values) for name, setting in settings.items() if not setting.is_default
        )
        or "all parameters have their defaults"
    )


def _line(name: str, setting: Setting, values: Mapping[str, Value]) -> str:
    source = f"{PROJECT}; the cell has the default" if setting.source == PROJECT else setting.source
    line, shown = f"{name} = {setting.value!r}", f"{name} = {setting.value!r} ({source})"
    return idle(name, values).replace(line, shown, 1) or shown


def _check_names(sources: Iterable[str]) -> tuple[int, list[str]]:
    """Refuse names that the last parameters cell, or papermill in its own cell below, sets in vain.

    Parameters
    ----------
    sources : of the cells that ran, as IPython's `In` has them.

    Returns
    -------
    The index of the last parameters cell, -1 without one; and the names that papermill sets below it.
    """
    given: list[str] = []
    injected: list[str] = []
    ran = -1
    for index, source in enumerate(sources):
        names = _assigned(source)
        if source.startswith(INJECTED):
            injected = names
        elif names and re.search("^dataset_name: ", source, re.MULTILINE):  # a scratch cell has no types
            ran, given, injected = index, names, []
    own = [name for name in PARAMETERS if name in given]
    for name in (*given, *injected) if own else ():
        if name not in own:
            where = f" (it is one of {', '.join(PARAMETERS[name].notebooks)})" if name in PARAMETERS else ""
            raise ImgclfError(
                f"parameter '{name}': this notebook has none of that name"
                f"{where or nearest(name, dict(zip(own, own, strict=True)))}; it has {', '.join(own)}"
            )
    return ran, injected


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
