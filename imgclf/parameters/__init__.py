"""The parameters of the notebooks: their table, checks of their values, and which value has precedence."""

from imgclf.parameters.precedence import Setting, announce, resolve
from imgclf.parameters.table import ALL, DNN, PARAMETERS, SVM, SVM_ON_REFINED, Parameter, Value
from imgclf.parameters.values import (
    check,
    check_together,
    code,
    for_notebook,
    from_namespace,
    idle,
    literal,
    nearest,
    parse,
)

__all__ = [
    "ALL",
    "DNN",
    "PARAMETERS",
    "SVM",
    "SVM_ON_REFINED",
    "Parameter",
    "Setting",
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
    "resolve",
]
