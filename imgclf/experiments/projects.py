"""Projects: a folder with notebooks, `imgclf.toml`, images, results and run history."""

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf import ImgclfError, __version__, files
from imgclf.data import dataset, layout, remote
from imgclf.data.folders import is_system
from imgclf.experiments import notebooks
from imgclf.images import pointers, stores
from imgclf.parameters import PARAMETERS, Value, check, check_together, project_file

if TYPE_CHECKING:
    import nbformat

METADATA = "imgclf_project"  # of a notebook: what `create` wrote into the project; "imgclf" is of its outputs
REPLACED = "replaced"  # folder below notebooks/, of those that the user had changed
NO_SWEEP = {"grid": ""}
GITIGNORE = """\
# Images, results and run history; the notebooks and imgclf.toml are versioned.
/images/
/proc/
/networks/
/runs/
/mlflow*
/.mlflow*
/.imgclf.toml.lock*
.*.part
.ipynb_checkpoints/
"""


def create(folder: Path, *, images: Path | None = None, name: str = "") -> dict[str, Value]:
    """Create a project: the notebooks without outputs, `imgclf.toml` and `.gitignore`.

    Parameters
    ----------
    folder : absolute; empty or missing.
    images : absolute; a folder of label folders, which is used in place.
    name : of the data set; by default that of the folder of images, or of the project.

    Returns
    -------
    The values in `imgclf.toml`.

    Raises
    ------
    ImgclfError : the folder is a project or not empty, `images` has no label folders or holds the project, or
        the name is not allowed. Nothing is written then.
    """
    _check_new(folder)
    name = name or Path(dataset.location(images or folder)).name
    values: dict[str, Value] = {"dataset_name": check("dataset_name", name)}
    if images:
        url = pointers.url_of(images)
        stores.find(url) if url else layout.find(images)
        if folder.resolve().is_relative_to(images.resolve()):
            raise ImgclfError(
                f"{folder}: lies in the folder of the images, {images}; name a folder elsewhere"
            )
        values["images_dir"] = dataset.location(images)
    check_together(values)
    with files.writable(folder, remedy="name another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        # The file comes first: if this is stopped, `imgclf new --update` does the rest.
        files.write_text(folder / files.PROJECT_FILE, project_file.new({**values, **NO_SWEEP}))
        if not images:
            (folder / "images" / str(values["dataset_name"])).mkdir(parents=True, exist_ok=True)
    update(folder)
    return values


def _check_new(folder: Path) -> None:
    if (folder / files.PROJECT_FILE).exists():
        raise ImgclfError(
            f"{folder}: a project already; imgclf new {shlex.quote(str(folder))} --update brings the "
            f"notebooks of imgclf {__version__}"
        )
    if folder.exists() and not folder.is_dir():
        raise ImgclfError(f"{folder}: a file; name a folder")
    if folder.is_dir() and (
        found := sorted(path.name for path in folder.iterdir() if not is_system(path.name))
    ):
        raise ImgclfError(f"{folder}: not empty ({found[0]}); name an empty folder or a new one")


def next_steps(folder: Path, values: Mapping[str, Value]) -> str:
    """Return what to do in a new project, as text."""
    lines = [f"cd {shlex.quote(str(folder))}"]
    if not values.get("images_dir"):
        place = folder / "images" / str(values["dataset_name"])
        lines.append(f"put the images of each label into a folder of its own: {place}/LABEL")
        lines.append("no images yet? notebook 08_own_images searches for some: imgclf lab")
    return "\n".join(
        [
            *lines,
            "imgclf run      trains and evaluates a classifier",
            "imgclf lab      opens the notebooks in JupyterLab",
            "imgclf set      changes parameters, such as imgclf set classifier=dnn; "
            f"all of them are in {files.PROJECT_FILE}",
        ]
    )


def update(folder: Path) -> list[str]:
    """Bring notebooks and parameters of this version into a project; keep values, and copies of edits.

    Returns
    -------
    A line for each notebook that was replaced or added, one for new parameters, and one for `.gitignore`.

    Raises
    ------
    ImgclfError : the folder is no project, or its `imgclf.toml` is not allowed.
    """
    if not (folder / files.PROJECT_FILE).is_file():
        raise ImgclfError(
            f"{folder}: no project, it has no {files.PROJECT_FILE}; leave out --update to make one"
        )
    added = project_file.add_missing(folder)
    said = [line for path in notebooks.shipped() if (line := _bring(path, folder / notebooks.FOLDER))]
    if added:
        said.append(f"{files.PROJECT_FILE}: new parameters, with their defaults: {', '.join(added)}")
    if ignored := _ignore_more(folder / ".gitignore"):
        said.append(ignored)
    return said


def _ignore_more(path: Path) -> str:
    """Add the lines of `GITIGNORE` that a `.gitignore` lacks; say which. One in a comment stays out."""
    text = files.read_bytes(path).decode(errors="surrogateescape") if path.exists() else ""
    kept = {line.strip().lstrip("#! ") for line in text.splitlines()}
    missing = [line for line in GITIGNORE.splitlines() if line.lstrip("# ") not in kept]
    if all(line.startswith("#") for line in missing):
        return ""
    with files.replace_file(path) as file:
        end = "\n" if text and not text.endswith("\n") else ""
        file.write("".join([text, end, *(f"{line}\n" for line in missing)]).encode(errors="surrogateescape"))
    return f"{path.name}: added {', '.join(line for line in missing if not line.startswith('#'))}"


def outdated() -> str:
    """Return a sentence if this version has other notebooks than those from which the project was made."""
    project = files.project_dir()
    paths = (
        [(path, project / notebooks.FOLDER / path.name) for path in notebooks.shipped()] if project else []
    )
    old = [path.stem for path, own in paths if own.exists() and _state(path)[0] not in _state(own)]
    if not old:
        return ""
    return (
        f"{', '.join(old)}: imgclf {__version__} has a new version; "
        f"imgclf new {shlex.quote(str(project))} --update brings it, and keeps a copy of what you changed"
    )


def _bring(shipped: Path, folder: Path) -> str:
    """Write a notebook of this version into the folder of a project, if it is newer; say what was done."""
    from imgclf.experiments.notebook_format import nbformat

    new, path = nbformat.read(shipped, as_version=4), folder / shipped.name
    sources = _sha256(new)
    now, written = _state(path)
    if sources in (now, written):
        return ""
    said = f"{path.stem}: new version" if path.exists() else f"{path.stem}: added"
    if path.exists() and now != written:
        copy = _unused(folder / REPLACED / path.name)
        with files.writable(copy):
            copy.parent.mkdir(exist_ok=True)
            path.rename(copy)
        said += f"; you had changed it: your copy is {copy.relative_to(folder.parent).as_posix()}"
    for cell in new.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    new.metadata[METADATA] = {"version": __version__, "sources": sources}
    files.write_text(path, nbformat.writes(new) + "\n")
    return said


def _state(path: Path) -> tuple[str, str]:
    """Return the sha256 of a notebook's sources, and the one with which it was written; empty if unknown."""
    from imgclf.experiments.notebook_format import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        return _sha256(notebook), str(notebook.metadata.get(METADATA, {}).get("sources", ""))
    except Exception:  # damaged in any way: nbformat and jsonschema raise many types
        return "", "unknown"


def _sha256(notebook: "nbformat.NotebookNode") -> str:
    text = "\0".join(f"{cell.cell_type}\0{cell.source}" for cell in notebook.cells)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _unused(path: Path) -> Path:
    names = [path, *(path.with_stem(f"{path.stem} {number}") for number in range(2, 1000))]
    return next(name for name in names if not name.exists())


def set_values(changes: Mapping[str, Value] | None) -> bool:
    """Set parameters in the `imgclf.toml` of the project, or none; return whether it changed.

    Raises
    ------
    ImgclfError : there is no project, a folder or file is missing, or values do not fit together.
    """
    for name, value in (changes or {}).items():
        if name == "images_dir" and value:
            folder = dataset.images_folder("", str(value))
            remote.follow(folder)
            layout.find(folder)
        if Path(str(value)).suffix in PARAMETERS[name].suffixes and not Path(str(value)).is_file():
            raise ImgclfError(f"{name}={value}: no such file; correct the path")
    return project_file.change(changes)


def lab_options() -> list[str]:
    """Return the options with which JupyterLab opens the project, or the notebooks of the clone.

    Raises
    ------
    ImgclfError : there is neither.
    """
    project = files.project_dir()
    if not project and not files.CLONE:
        raise ImgclfError(
            f"no {files.PROJECT_FILE} in this folder or above it; make a project with imgclf new FOLDER, and "
            "start imgclf lab in it"
        )
    if not project:
        return [f"--ServerApp.root_dir={notebooks.NOTEBOOKS}"]
    paths = [
        path.relative_to(project).as_posix() for path in notebooks.paths() if path.is_relative_to(project)
    ]
    first = [path for path in paths if Path(path).name[:2] == ("01" if _has_images() else "00")]
    opened = [f"--LabApp.default_url=/lab/tree/{first[0]}"] if first else []
    return [f"--ServerApp.root_dir={project}", *opened]


def _has_images() -> bool:
    stored = project_file.read()
    name = str(stored.get("dataset_name", PARAMETERS["dataset_name"].default))
    images_dir = str(stored.get("images_dir", ""))
    folder = dataset.images_folder(name, images_dir)
    return stores.is_url(images_dir) or (folder.is_dir() and any(folder.iterdir()))
