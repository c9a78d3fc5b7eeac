"""Files and folders that operating systems and programs put beside images; they are never data."""

SYSTEM_NAMES = frozenset(
    (
        "@eadir",  # thumbnails on Synology
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "__macosx",  # in zip archives from a Mac
        "__pycache__",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    )
)


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or belongs to a system."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES
