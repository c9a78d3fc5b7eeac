"""An HTML page that names author, licence and source of each image of a data set."""

from collections import Counter
from html import escape
from pathlib import Path
from urllib.parse import quote

from imgclf import ImgclfError, files
from imgclf.collect import fetch, licences, manifest
from imgclf.collect.manifest import Entry
from imgclf.data.journal import Journal

NAME = "attribution.html"  # in the folder of the data set, above the label folders: no image, no label
UNKNOWN = "unknown"
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="script-src 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Images of {name}</title>
<style>
body {{ font-family: sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; }}
table {{ border-collapse: collapse; }}
td, th {{ border-bottom: 1px solid #ccc; padding: .3em .15em; text-align: left; }}
td {{ min-width: 3em; overflow-wrap: anywhere; }}
img {{ max-height: 4em; max-width: 6em; }}
</style>
<h1>Images of {name}</h1>
<p>{count} images. Large ones are scaled down. Licences are those that the source states, unverified.</p>
<ul>
{licences}
</ul>
<table>
<tr><th>Image<th>Title<th>Author<th>Licence<th>Source</tr>
{rows}
</table>
</html>
"""


def write(dataset_name: str) -> Path:
    """Write `images/NAME/attribution.html`, with the images of the manifest that are in the folder.

    Raises
    ------
    ImgclfError : the data set has no manifest.
    """
    path = manifest.find(dataset_name)
    if not path:
        raise ImgclfError(
            f"dataset_name='{dataset_name}': has no manifest, which says where its images are from; "
            "search for images first"
        )
    folder = files.data_dir() / "images" / dataset_name
    images = _stored(manifest.read(path), folder)
    counts = Counter(entry.licence or UNKNOWN for entry, _ in images)
    text = PAGE.format(
        name=escape(dataset_name),
        count=f"{len(images):,}",
        licences="\n".join(f"<li>{_licence(name)}: {number:,}" for name, number in counts.most_common()),
        rows="\n".join(_row(entry, image) for entry, image in images),
    )
    files.write_text(folder / NAME, text)
    return folder / NAME


def _stored(entries: list[Entry], folder: Path) -> list[tuple[Entry, str]]:
    """The entries whose image is in the folder, each with its present path, also after a relabelling."""
    names = fetch.stored(folder, {entry.label for entry in entries})
    moved = {origin: path for path, origin in Journal(folder).origins().items()}
    paths = {key: f"{key[0]}/{name}" for key, name in names.items()}
    return [(entry, moved.get(path, path)) for entry in entries if (path := paths.get(fetch.key(entry), ""))]


def _row(entry: Entry, image: str) -> str:
    cells = (
        f'<a href="{quote(image)}"><img loading="lazy" alt="" src="{quote(image)}"> {escape(image)}</a>',
        escape(entry.title),
        escape(entry.author) or UNKNOWN,
        _licence(entry.licence),
        _link(entry.page or entry.source, "source"),
    )
    return "<tr>" + "".join(f"<td>{cell}" for cell in cells) + "</tr>"


def _licence(name: str) -> str:
    return _link(licences.deed(name), name or UNKNOWN)


def _link(url: str, text: str) -> str:
    """A link; only its text if the URL is no web address, such as `javascript:`."""
    if not url.startswith(("http://", "https://")):
        return escape(text)
    return f'<a rel="noopener nofollow" href="{escape(url)}">{escape(text)}</a>'
