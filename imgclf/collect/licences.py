"""Licences of images: one spelling for each, and which of them allow commercial use."""

import re

from imgclf.collect.manifest import one_line

CREATIVE_COMMONS = re.compile(
    r"(?:cc[ -])?(by(?:[ -](?:nc|nd|sa))*)(?:[ -](\d\.\d))?(?:[ -](?!nc\b|nd\b|sa\b)([a-z]{2,6}))?",
    re.IGNORECASE,
)
ZERO = re.compile(r"cc[ -]?(?:0|zero)(?:[ -](\d\.\d))?", re.IGNORECASE)
PUBLIC_DOMAIN = re.compile(r"pdm?|public domain(?: mark)?(?: \d\.\d)?|cc[ -]pdm?", re.IGNORECASE)
# What allows commercial use, as the services write it; the whole name must be one of these.
COMMERCIAL = re.compile(
    r"cc by(?:-sa|-nd)?(?: \d\.\d(?:,\d\.\d)*)?(?: [a-z]{2,6})?|cc0(?: \d\.\d)?|public domain|no restrictions"
    r"|copyrighted free use|attribution|gfdl(?: \d\.\d)?|fal|free art licen[sc]e|ogl(?: \d(?:\.\d)?)?"
    r"|open government licen[sc]e(?: \d\.\d)?",
    re.IGNORECASE,
)


def normalised(name: str, version: str = "") -> str:
    """One spelling of a licence, such as "CC BY-SA 4.0", "CC0 1.0" or "Public domain"; others as they are.

    Parameters
    ----------
    name : as a service writes it: "by-sa", "cc-by-sa", "CC BY-SA 4.0", "cc0", "pdm".
    version : of the licence, if the name lacks it.
    """
    name, version = one_line(name), one_line(version)
    if found := ZERO.fullmatch(name):
        return f"CC0 {found[1] or version}".strip()
    if PUBLIC_DOMAIN.fullmatch(name):
        return "Public domain"
    if found := CREATIVE_COMMONS.fullmatch(name):
        conditions = re.sub(" ", "-", found[1]).upper()
        return " ".join(filter(None, ["CC", conditions, found[2] or version, (found[3] or "").lower()]))
    return name


def allows_commercial_use(licence: str) -> bool:
    """Whether a licence, as `normalised` gives it, is known to allow commercial use. Unknown ones are not."""
    return bool(COMMERCIAL.fullmatch(licence))


def deed(licence: str) -> str:
    """URL of the text of a Creative Commons licence; "" of any other, and without a version."""
    if found := re.fullmatch(r"CC BY((?:-(?:NC|ND|SA))*) (\d\.\d)(?: ([a-z]{2,6}))?", licence):
        parts = ["by" + found[1].lower(), found[2], *filter(None, [found[3]])]
        return f"https://creativecommons.org/licenses/{'/'.join(parts)}/"
    if licence.startswith("CC0"):
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    return ""
