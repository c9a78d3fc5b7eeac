"""What a label may be called: it is the name of a folder, on every system."""

import re

# A device's name is no name for a file on Windows, with or without a suffix.
RESERVED = r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"
LABEL_RULES = (
    (r"", "is empty; write the name of the class there"),
    (r"\..*", "begins with a dot, which hides its folder; choose another name"),
    (r".*[/\\].*", "has a slash, but each class is one folder; write it without"),
    (r".*[\x00-\x1f\x7f].*", "has a control character; remove it"),
    (r".{81,}", "has more than 80 characters; shorten it"),
    (r'.*[<>:"|?*].*|.*[. ]| .*|' + RESERVED, "cannot name a folder on every system; choose another name"),
    (r"unlabelled", "is the folder of images without a label; choose another name"),
)


def label_fault(label: str) -> str:
    """Why `label` cannot be the name of a label's folder, and what to do; empty if it can."""
    if any("\ud800" <= letter <= "\udfff" for letter in label):
        return "has letters that cannot be written; choose another name"
    return next(
        (fault for rule, fault in LABEL_RULES if re.fullmatch(rule, label, re.IGNORECASE | re.DOTALL)), ""
    )
