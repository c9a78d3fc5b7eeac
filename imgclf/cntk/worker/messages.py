"""Messages between parent and worker: JSON and named arrays, as bytes in a pipe. Python 3.6 runs this too."""

import json
import struct

import numpy as np

MAGIC = b"imgclf-1"
SIZES = struct.Struct("<IQ")  # bytes of the JSON text, bytes of all arrays
MAX_TEXT_BYTES = 2**26
MAX_ARRAY_BYTES = 2**34
WRONG_PYTHON = 3  # exit status of a worker that runs in another Python than 3.6


def write(file, values, arrays=None):
    """Write a message: a dictionary that JSON can hold, and named arrays, as raw bytes in C order."""
    arrays = {
        name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in (arrays or {}).items()
    }
    listed = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    text = json.dumps(dict(values, arrays=listed)).encode()
    _write_all(file, MAGIC + SIZES.pack(len(text), sum(array.nbytes for array in arrays.values())) + text)
    for array in arrays.values():
        _write_all(file, array.reshape(-1).view(np.uint8))
    file.flush()


def _write_all(file, content):
    """An unbuffered pipe may write only a part at once."""
    rest = memoryview(content)
    while len(rest):
        rest = rest[file.write(rest) :]


def read(file):
    """The next message: its dictionary, and the arrays by their names.

    Raises
    ------
    EOFError : the other side closed the pipe, perhaps in the middle of a message.
    ValueError : the bytes are no message.
    """
    magic = _read(file, len(MAGIC))
    if magic != MAGIC:
        raise ValueError("got %r and not a message" % magic)
    text_size, array_size = SIZES.unpack(_read(file, SIZES.size))
    if text_size > MAX_TEXT_BYTES or array_size > MAX_ARRAY_BYTES:
        raise ValueError("a message of %d and %d bytes" % (text_size, array_size))
    values = json.loads(_read(file, text_size).decode())
    arrays = {}
    for name, dtype, shape in values.pop("arrays"):
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        array_size -= count
        if array_size < 0:
            raise ValueError("array %s is larger than its message" % name)
        arrays[name] = np.frombuffer(_read(file, count), dtype).reshape(shape)
    if array_size:
        raise ValueError("%d bytes more than its arrays take" % array_size)
    return values, arrays


def _read(file, count):
    parts, missing = [], count
    while missing:
        part = file.read(min(missing, 2**24))
        if not part:
            raise EOFError("the pipe ended %d bytes early" % missing)
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
