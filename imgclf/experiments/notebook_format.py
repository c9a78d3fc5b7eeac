"""nbformat, loaded in a tenth of a second."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

GRAMMAR = "rfc3987_syntax"  # compiles a grammar of Unicode URLs as it is imported, which takes a second


@contextmanager
def _deferred_grammar() -> Iterator[None]:
    """Stand in for `GRAMMAR`, which jsonschema imports, until a format is checked; notebooks have none."""
    if GRAMMAR in sys.modules:
        yield
        return
    deferred = ModuleType(GRAMMAR)
    deferred.is_valid_syntax = _is_valid_syntax  # type: ignore[attr-defined]
    sys.modules[GRAMMAR] = deferred
    try:
        yield
    finally:
        del sys.modules[GRAMMAR]


def _is_valid_syntax(term: str, value: str) -> bool:
    return bool(import_module(GRAMMAR).is_valid_syntax(term, value))


with _deferred_grammar():
    import nbformat as nbformat
