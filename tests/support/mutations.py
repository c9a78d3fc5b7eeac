"""Hypothesis strategies that damage the content of real files, for fuzz/."""

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

NUMBERS = [0, 1, 2, 3, 4, 127, 128, 255, 256, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
TEXT = tuple(
    token.encode("utf-8", "surrogatepass")
    for token in (
        *("\t", "\n", "\r", "\r\n", "\0", " ", '"', "'", ",", ":", "\\", "/", "..", "../../", "\ufeff", "\u2028", "\x1b"),
        *("-", "0", "-1", "1" * 400, "1" * 5000, "1e999", "0.5", "NaN", "Infinity", "null", "true", "[]", "{}", '"x"'),
        *("[" * 2000, '{"a":' * 2000, "\ud800", "é", "日本", "e\u0301", "x" * 300, "https://", "demo:", "CON", ".jpg"),
    )
)  # fmt: skip


def damaged(
    contents: Sequence[bytes], tokens: Sequence[bytes] = (), *, most: int = 65536
) -> st.SearchStrategy[bytes]:
    """One of the contents, with up to eight changes; at most `most` bytes.

    Parameters
    ----------
    tokens : what is inserted besides numbers and random bytes.
    """

    def damage(seed: int, changes: int) -> bytes:
        draw = Random(seed)  # all that hypothesis draws is the seed: a hundred times faster
        content = bytearray(draw.choice(contents))
        for _ in range(changes):
            _change(content, draw, contents, tokens)
        return bytes(content[:most])

    return st.builds(damage, st.integers(0, 2**40), st.integers(0, 8))


def _change(content: bytearray, draw: Random, contents: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    """Overwrite, insert, delete, repeat, cut off, or splice with another content."""
    head = min(64, len(content))  # hit more often
    at = draw.randrange(1 + (head if draw.random() < 0.4 else len(content)))
    length = draw.choice([1, 2, 4, 8, draw.randrange(64), draw.randrange(len(content) + 1)])
    number, order = draw.choice(NUMBERS), draw.choice(["big", "little"])
    new = [
        number.to_bytes(4, order),
        (number & 0xFFFF).to_bytes(2, order),
        draw.randbytes(length % 64),
        *tokens,
    ]
    other = draw.choice(contents)
    match draw.choice(["overwrite", "overwrite", "insert", "delete", "repeat", "cut", "splice"]):
        case "overwrite":
            content[at : at + length % 8] = draw.choice(new)[: length % 8]
        case "insert":
            content[at:at] = draw.choice(new)
        case "delete":
            del content[at : at + length]
        case "repeat":
            content[at:at] = content[at : at + length] * draw.choice([1, 2, 50])
        case "cut":
            del content[at:]
        case "splice":
            content[at:] = other[draw.randrange(len(other) + 1) :]


LETTERS = st.characters(codec=None)  # lone surrogates too
TEXTS = st.one_of(
    st.sampled_from([token.decode(errors="replace") for token in TEXT]), st.text(LETTERS, max_size=30)
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXTS, children, max_size=4),
    max_leaves=8,
)  # fmt: skip
