"""Messages between us and the worker: JSON text and named arrays, as bytes in a pipe. Python 3.6 runs this too."""

import json
import struct

import numpy as np

MAGIC = b"imgclf-1"
SIZES = struct.Struct("<IQ")  # bytes of the JSON text, bytes of all arrays
MOST_TEXT = 2**26
MOST_BYTES = 2**34
WRONG_PYTHON = 3  # exit status of a worker that another Python than 3.6 runs


def write(file, about, arrays=None):
    """Write a message: what JSON can hold, and named arrays, as raw bytes in C order."""
    arrays = {
        name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in (arrays or {}).items()
    }
    listed = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    text = json.dumps(dict(about, arrays=listed)).encode()
    _write_all(file, MAGIC + SIZES.pack(len(text), sum(array.nbytes for array in arrays.values())) + text)
    for array in arrays.values():
        _write_all(file, array.reshape(-1).view(np.uint8))
    file.flush()


def _write_all(file, content):
    """A pipe without buffer may take only a part at once."""
    rest = memoryview(content)
    while len(rest):
        rest = rest[file.write(rest) :]


def read(file):
    """The next message: what JSON held, and the arrays by their names.

    Raises
    ------
    EOFError : the other side is gone, perhaps in the middle of a message.
    ValueError : what came is no message.
    """
    magic = _read(file, len(MAGIC))
    if magic != MAGIC:
        raise ValueError("got %r and not a message" % magic)
    text_size, array_size = SIZES.unpack(_read(file, SIZES.size))
    if text_size > MOST_TEXT or array_size > MOST_BYTES:
        raise ValueError("a message of %d and %d bytes" % (text_size, array_size))
    about = json.loads(_read(file, text_size).decode())
    arrays = {}
    for name, kind, shape in about.pop("arrays"):
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        array_size -= count
        if array_size < 0:
            raise ValueError("array %s is larger than its message" % name)
        arrays[name] = np.frombuffer(_read(file, count), kind).reshape(shape)
    if array_size:
        raise ValueError("%d bytes more than its arrays take" % array_size)
    return about, arrays


def _read(file, count):
    parts, missing = [], count
    while missing:
        part = file.read(min(missing, 2**24))
        if not part:
            raise EOFError("the pipe ended %d bytes early" % missing)
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
