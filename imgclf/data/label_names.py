"""Valid names of labels: a label is the name of a folder, on every operating system."""

import re

from imgclf.data.folders import SYSTEM

# On Windows the name of a device cannot name a file, with or without a suffix.
RESERVED = r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d\u00b9\u00b2\u00b3]) *(\..*)?"
FILES = r"annotations\.jsonl|attribution\.html|dedicatedTestImages\.tsv|dedicated_test\.tsv"
LABEL_RULES = (
    (r"", "is empty; write the name of the class there"),
    (r"\..*", "begins with a dot, which hides its folder; choose another name"),
    (r".*[/\\].*", "has a slash, but each class is one folder; write it without"),
    (r".*[\x00-\x1f\x7f].*", "has a control character; remove it"),
    (r".{81,}", "has more than 80 characters; shorten it"),
    (r'.*[<>:"|?*].*|.*[. ]| .*|' + RESERVED, "cannot name a folder on every system; choose another name"),
    (r"unlabelled", "is the folder of images without a label; choose another name"),
    (
        r"unfamiliar",
        "is the folder of images of other things, which are never trained on; choose another name",
    ),
    (FILES, "is the name of a file that imgclf writes beside the labels; choose another name"),
    (SYSTEM, "is a folder of the operating system; choose another name"),
)


def label_fault(label: str) -> str:
    """Return why `label` cannot name a folder, and what to do; empty if it can."""
    if any("\ud800" <= letter <= "\udfff" for letter in label):
        return "has letters that cannot be written; choose another name"
    return next(
        (fault for rule, fault in LABEL_RULES if re.fullmatch(rule, label, re.IGNORECASE | re.DOTALL)), ""
    )
