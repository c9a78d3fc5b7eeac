"""How a split was made: `split.json`."""

from pathlib import Path
from typing import TypedDict

from imgclf import ImgclfError, files, parameters


class Settings(TypedDict):
    """How a split was made; see `split.Split`."""

    train_fraction: float
    split_by: str
    seed: int
    divided: tuple[str, ...]
    not_found: tuple[str, ...]
    lost_test: tuple[str, ...]


KINDS = {
    "train_fraction": float,
    "split_by": str,
    "seed": int,
    "divided": list[str],
    "not_found": list[str],
    "lost_test": list[str],
}
OF_0_1_0: dict[str, list[str]] = {"divided": [], "not_found": [], "lost_test": []}  # not in version 0.1.0


def _path(dataset_name: str) -> Path:
    return files.proc_dir(dataset_name) / "split.json"


def write(dataset_name: str, settings: Settings) -> None:
    """Write the settings of the split of a data set."""
    files.write_json(_path(dataset_name), settings)


def read(dataset_name: str) -> Settings:
    """Return the settings of the split that was written last.

    Raises
    ------
    ImgclfError : `split.json` is missing or damaged, or has a value that is not allowed.
    """
    path = _path(dataset_name)
    try:
        stored = files.read_json(path, KINDS, defaults=OF_0_1_0)
        for name in ("train_fraction", "split_by", "seed"):
            parameters.check(name, stored[name])
    except (OSError, ValueError) as error:
        raise ImgclfError(f"{path}: missing or damaged; run 01_prepare_data again") from error
    except ImgclfError as error:
        raise ImgclfError(f"{path}: {error}; run 01_prepare_data again") from error
    return Settings(
        train_fraction=stored["train_fraction"],
        split_by=stored["split_by"],
        seed=stored["seed"],
        divided=tuple(stored["divided"]),
        not_found=tuple(stored["not_found"]),
        lost_test=tuple(stored["lost_test"]),
    )
