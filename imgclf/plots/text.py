"""Labels and file names as text in figures: literal, short, and in fonts that have their characters."""

import unicodedata
import warnings
from functools import cache
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.ft2font import FT2Font

# A matplotlibrc may set these. They are set for the process, since matplotlib makes ticks when it draws.
mpl.rcParams.update({"text.usetex": False, "text.parse_math": True})

LONGEST = 18  # letters of a label beside an axis
INVISIBLE = ("Cc", "Cf", "Mn")  # Unicode categories of characters without a glyph of their own
CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO")  # first words of names of characters
_looked_up: set[str] = set()  # characters for which a font was searched
_named_fonts: set[str] = set()  # that the user has been asked to install


def plain(text: str) -> str:
    """Escape a label or file name, so that matplotlib draws it literally, and find fonts for its characters.

    Unescaped, text between two dollar signs is set as mathematics. Call it before the texts of a figure are
    created: each keeps the fonts of that moment. Prints a sentence if no font has a character.
    """
    _find_fonts(text)
    return text.replace("$", r"\$")


def in_legend(text: str) -> str:
    """Return `plain` text for a legend; matplotlib leaves out entries that begin with an underscore."""
    return plain(f" {text}" if text.startswith("_") else text)


def short(text: str, most: int = LONGEST) -> str:
    """Shorten a text to at most `most` letters: an ellipsis replaces the middle of a longer one."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[len(text) - most + half + 1 :]}"


def _find_fonts(text: str) -> None:
    """Add fonts that have the characters of a text to matplotlib's fallback fonts."""
    new = {character for character in text if not character.isascii()} - _looked_up
    if not new:
        return
    _looked_up.update(new)
    missing = {c for c in new if unicodedata.category(c) not in INVISIBLE}
    for family in mpl.rcParams["font.family"]:
        missing -= _characters(font_manager.findfont(FontProperties(family=[family])))
    fonts = _system_fonts() if missing else {}
    while missing:
        name = max(
            fonts, key=lambda name: (len(missing & _characters(fonts[name])), "sans" in name.lower(), name)
        )
        if not missing & _characters(fonts[name]):
            _say_missing(missing)
            return
        mpl.rcParams["font.family"] = [*mpl.rcParams["font.family"], name]
        missing -= _characters(fonts[name])


@cache
def _system_fonts() -> dict[str, str]:
    """Return the file of each upright font, also of those that matplotlib's cached list lacks."""
    known = {Path(font.fname) for font in fontManager.ttflist}
    for path in sorted(set(map(Path, font_manager.findSystemFonts())) - known):
        try:
            fontManager.addfont(path)
        except (OSError, RuntimeError, NotImplementedError):  # damaged, or of pictures such as colour emoji
            continue
    upright = [f for f in fontManager.ttflist if f.style == "normal" and "Last Resort" not in f.name]
    normal_last = sorted(upright, key=lambda font: font.weight in (400, "normal"))
    return {font.name: font.fname for font in normal_last}


@cache
def _characters(path: str) -> frozenset[str]:
    """Return the characters that a font file has glyphs of."""
    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def _say_missing(missing: set[str]) -> None:
    """Print once which font to install; matplotlib would warn of each character, at each figure."""
    by_font: dict[str, list[str]] = {}
    for character in sorted(missing):
        by_font.setdefault(_font_for(character), []).append(character)
    for font in by_font.keys() - _named_fonts:
        _named_fonts.add(font)
        print(
            f"no font of this computer has {' '.join(by_font[font][:5])}; pictures show boxes in its place. "
            f"Install {font}, and restart the kernel"
        )
    warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")


def _font_for(character: str) -> str:
    if unicodedata.name(character, "").split(" ")[0].split("-")[0] in CJK:
        return "Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk)"
    if unicodedata.category(character) == "So":
        return "Symbola (fonts-symbola)"
    return "Noto Sans (fonts-noto-core)"
