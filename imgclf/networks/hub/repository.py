"""Models of the Hugging Face Hub in the data folder: fetched once, verified, and used without a network.

Weights are read from safetensors files alone, and no code of a model is run.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from imgclf import ImgclfError, files
from imgclf.networks import weights
from imgclf.networks.hub import api
from imgclf.networks.hub.api import CONFIG, DEFAULT, File, Listing
from imgclf.parameters.table import HUB_MODEL

PACKAGES = ("huggingface_hub", "safetensors", "transformers")
RECORD = "snapshot.json"  # beside the files of a model; written when its settings are there
REVISIONS = "revisions.json"  # beside the folders of the commits: the commit of each branch and tag
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SETTINGS = (CONFIG, "preprocessor_config.json", "processor_config.json")
SHARD = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
MAX_UNKNOWN_BYTES = 2**20  # of a file whose size the Hub does not state
MAX_BYTES = {INDEX: 2**25, **dict.fromkeys(SETTINGS, 2**20)}  # of the files that are read whole


@dataclass(frozen=True)
class Snapshot:
    """A model of the Hub at one commit, in the data folder.

    Attributes
    ----------
    name : OWNER/NAME.
    revision : the hash of the commit.
    licence : as its card states it; empty: it states none.
    files : the files that are kept; `fetch` downloads those of the weights.
    folder : of its files.
    is_new : whether its folder was not there before.
    """

    name: str
    revision: str
    licence: str
    files: Mapping[str, File]
    folder: Path
    is_new: bool = False

    @property
    def pinned(self) -> str:
        """The name that stands for this commit."""
        return f"hf/{self.name}@{self.revision}"

    @property
    def weights(self) -> dict[str, File]:
        """The files of the weights."""
        return {name: file for name, file in self.files.items() if SHARD.fullmatch(name)}

    def __str__(self) -> str:
        licence = f"licence {self.licence}" if self.licence else "its card states no licence"
        size = sum(file.size for file in self.weights.values())
        return f"{licence}, weights of {size / 1e6:.1f} MB"


def find(name: str) -> Snapshot:
    """Return a model of the Hub, whose weights may not be there yet; see `fetch`.

    One that is kept in the data folder needs no network. A branch or a tag is the commit that it
    pointed to when it was first fetched.

    Parameters
    ----------
    name : hf/OWNER/NAME, hf/OWNER/NAME@REVISION, or one of them with #mean.

    Raises
    ------
    ImgclfError : see `api.ask`; or it is no model of transformers, its weights are not in safetensors files,
        it needs code of its own, or a file that is kept is damaged.
    """
    home, repository, revision = _place(name)
    if kept := _kept(home, repository, revision):
        return kept
    # Before the lock, whose folder a wrong name, or a model that cannot be used, must not leave behind.
    listing = api.ask(repository, revision)
    settings = _settings(f"hf/{repository}", listing)
    with files.lock(home):
        if kept := _kept(home, repository, revision):  # another run may have fetched it meanwhile
            return kept
        folder = home / listing.commit
        is_new = not folder.exists()
        if not (folder / RECORD).exists():
            for file in settings:
                _obtain(repository, listing.commit, settings[file], folder / file)
            try:
                _write_record(f"hf/{repository}", listing, settings, folder)
            except ImgclfError:
                if is_new:
                    _remove(folder)
                raise
        files.write_json(home / REVISIONS, _commits(home) | {revision: listing.commit})
        return replace(_read(folder, repository), is_new=is_new)


def discard(folder: Path) -> None:
    """Remove the folder of a commit that cannot be used, unless another run fetches its weights."""
    with files.lock(folder.parent):
        if {path.name for path in folder.glob("*")} <= {*SETTINGS, INDEX, RECORD}:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove the folder of a commit, and that of its model if there is no other commit."""
    home = folder.parent
    shutil.rmtree(folder, ignore_errors=True)
    commits = {name: commit for name, commit in _commits(home).items() if commit != folder.name}
    if any(path.is_dir() for path in home.iterdir()):
        files.write_json(home / REVISIONS, commits)
    else:
        shutil.rmtree(home, ignore_errors=True)
        with suppress(OSError):  # another model of the same owner
            home.parent.rmdir()


def is_fetched(name: str) -> bool:
    """Whether the data folder has a model with its weights; a network is not asked.

    Raises
    ------
    ImgclfError : a file that is kept is damaged.
    """
    kept = _kept(*_place(name))
    return kept is not None and all((kept.folder / file).exists() for file in kept.weights)


def _place(name: str) -> tuple[Path, str, str]:
    """Return the folder of a model in the data folder, its name without "hf/", and the revision.

    Raises
    ------
    ImgclfError : it is no such name.
    """
    match = HUB_MODEL.fullmatch(name)
    if match is None:
        raise ImgclfError(
            f"{name!r}: must be hf/OWNER/NAME, hf/OWNER/NAME@REVISION, or one of them with #mean"
        )
    repository = match["repository"]
    return files.data_dir() / "networks" / "hf" / repository, repository, match["revision"] or DEFAULT


def descriptions(names: Iterable[str]) -> list[str]:
    """Return a line with commit, licence and size for each model of the Hub among `names`.

    Raises
    ------
    ImgclfError : see `find`.
    """
    found = map(find, filter(HUB_MODEL.fullmatch, dict.fromkeys(names)))
    return [f"{snapshot.pinned}: {snapshot}" for snapshot in found]


def fetch(snapshot: Snapshot, *, progress: weights.Progress | None = None) -> Path:
    """Download the weights of a model, unless they are there, and verify them; return their folder.

    Parameters
    ----------
    progress : called during the download with the bytes received so far and the size of all files.

    Raises
    ------
    ImgclfError : see `weights.download`; or a file that is there is damaged.
    """
    whole, before = sum(file.size for file in snapshot.weights.values()), 0
    for name, file in snapshot.weights.items():
        path = snapshot.folder / name

        def tell(here: int, _: int, before: int = before) -> None:
            if progress:
                progress(before + here, whole)

        if path.exists():
            weights.check(_source(snapshot.name, file), path)
        else:
            with files.lock(snapshot.folder):
                _obtain(snapshot.name, snapshot.revision, file, path, progress=tell)
        before += file.size
    return snapshot.folder


def _commits(home: Path) -> dict[str, Any]:
    """Return the commits of branches and tags, by name."""
    return _json(home / REVISIONS, {}) if (home / REVISIONS).exists() else {}


def _kept(home: Path, repository: str, revision: str) -> Snapshot | None:
    """Return the model of a revision that the data folder has; None if it does not have it."""
    commit = revision if api.COMMIT.fullmatch(revision) else str(_commits(home).get(revision, ""))
    is_kept = api.COMMIT.fullmatch(commit) and (home / commit / RECORD).exists()
    return _read(home / commit, repository) if is_kept else None


def _read(folder: Path, repository: str) -> Snapshot:
    """Return the snapshot in a folder, with its settings verified.

    Raises
    ------
    ImgclfError : a file is damaged or missing.
    """
    path = folder / RECORD
    record = _json(path, {"licence": str, "files": dict})
    try:
        found = {name: File(int(file["size"]), str(file["digest"])) for name, file in record["files"].items()}
        if not all(name in MAX_BYTES or SHARD.fullmatch(name) for name in found):
            raise ValueError("a file that is not fetched")
    except (KeyError, TypeError, ValueError) as error:
        raise ImgclfError(f"{path}: damaged; delete it and run again") from error
    for name in MAX_BYTES.keys() & found:
        if not (folder / name).exists():
            raise ImgclfError(f"{folder / name}: is missing; delete {path} and run again")
        weights.check(_source(repository, found[name]), folder / name)
    return Snapshot(repository, folder.name, record["licence"], found, folder)


def _settings(name: str, listing: Listing) -> dict[str, File]:
    """Return all files that a model needs but the weights.

    Raises
    ------
    ImgclfError : its files are not those of a model that can be used.
    """
    if CONFIG not in listing.files:
        raise ImgclfError(f"{name}: has no {CONFIG}, so transformers cannot read it; choose another model")
    if not {WEIGHTS, INDEX} & listing.files.keys():
        pickled = next((file for file in listing.files if file.endswith(PICKLED)), "")
        why = f"but {pickled}, a format that can run code when it is read" if pickled else "nor its index"
        raise ImgclfError(
            f"{name}: has no {WEIGHTS}, {why}; choose a model, or a revision (hf/OWNER/NAME@REVISION), that "
            "has it"
        )
    names = [*SETTINGS, *([] if WEIGHTS in listing.files else [INDEX])]
    settings = {file: listing.files[file] for file in names if file in listing.files}
    for file in settings:
        if settings[file].size > MAX_BYTES[file]:
            raise ImgclfError(f"{name}: its {file} has {settings[file].size:,} bytes; choose another model")
    return settings


def _write_record(name: str, listing: Listing, settings: Mapping[str, File], folder: Path) -> None:
    """Check by its settings that a model can be used, and write its record.

    Raises
    ------
    ImgclfError : see `find`.
    """
    if _setting(name, folder / CONFIG, {}).get("auto_map"):
        raise ImgclfError(
            f"{name}: needs Python code of its repository (auto_map in its {CONFIG}), which is never run; "
            "choose a model that transformers has built in"
        )
    shards = [WEIGHTS] if WEIGHTS in listing.files else _shards(name, folder / INDEX, listing)
    kept = {**settings, **{shard: listing.files[shard] for shard in shards}}
    record = {"licence": listing.licence, "files": {file: asdict(kept[file]) for file in kept}}
    files.write_json(folder / RECORD, record)


def _setting(name: str, path: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object in a file as the Hub has it; see `files.read_json`."""
    try:
        return files.read_json(path, kinds)
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ImgclfError(
            f"{name}: its {path.name} cannot be used ({reason}); choose another model"
        ) from error


def _json(path: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object in a file; see `files.read_json`."""
    try:
        return files.read_json(path, kinds)
    except ValueError as error:
        raise ImgclfError(f"{error}; delete it and run again") from error


def _shards(name: str, index: Path, listing: Listing) -> list[str]:
    """Return the files that hold the weights, as their index names them.

    Raises
    ------
    ImgclfError : it names none, or others than those beside it.
    """
    shards = sorted(
        {str(file) for file in _setting(name, index, {"weight_map": dict})["weight_map"].values()}
    )
    wrong = [shard for shard in shards if not SHARD.fullmatch(shard) or shard not in listing.files]
    if wrong or not shards:
        what = f"names {wrong[0]!r}, which is no safetensors file beside it" if wrong else "names no files"
        raise ImgclfError(f"{name}: its {INDEX} {what}; choose another model")
    return shards


def _obtain(
    repository: str, commit: str, file: File, path: Path, *, progress: weights.Progress | None = None
) -> None:
    """Copy a file from the cache of `huggingface_hub` if that has it; else download it."""
    if path.exists() and not file.is_whole(path):
        path.unlink()
    cached = api.cached_file(repository, commit, path.name)
    with files.writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if cached and file.is_whole(cached):
            part = path.with_name(path.name + ".part")
            shutil.copyfile(cached, part)
            os.replace(part, path)
    if not path.exists() and (variable := api.offline()):
        raise ImgclfError(
            f"{path}: is not there yet, and {variable} is set; unset it, or copy the file there from a "
            "machine that has it"
        )
    source = _source(repository, file, api.url(repository, commit, path.name))
    weights.download(source, path, progress=progress)


def _source(repository: str, file: File, url: str = "") -> weights.Source:
    """Return where a file of a model comes from; without `url` only how it is verified."""
    return weights.Source(
        url,
        file.is_whole,
        f"the Hub has for hf/{repository}",
        headers=api.authorization() if url else {},
        max_bytes=file.size or MAX_UNKNOWN_BYTES,
    )
