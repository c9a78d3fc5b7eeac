"""Whether what a server sent is the image that a manifest lists, and what of it is stored."""

import hashlib
import re

from imgclf import ImgclfError
from imgclf.collect.downloader import Response
from imgclf.collect.manifest import Entry
from imgclf.downloads import DownloadError
from imgclf.images import decoding
from imgclf.images.jpeg_segments import MAX_SCANS, has_more_scans


def validated(entry: Entry, response: Response, max_image_side: int) -> tuple[bytes, str]:
    """Return the content to store and its suffix, if the body is the complete image that the manifest lists.

    Raises
    ------
    DownloadError : the body is empty, no image, truncated, or another image than listed.
    """
    body = response.body
    if not body:
        raise DownloadError("the response is empty")
    if has_more_scans(body, MAX_SCANS):
        raise DownloadError(f"a JPEG of more than {MAX_SCANS} scans, which would take minutes to decode")
    try:
        pixels = decoding.decode(body, entry.file_name, side=max_image_side or None)
    except ImgclfError as error:
        if response.content_type.startswith("text/html") or re.match(
            rb"\s*<(!doctype )?html", body, re.IGNORECASE
        ):
            raise DownloadError("a web page instead of an image") from error
        raise DownloadError(str(error).removeprefix(f"{entry.file_name}: ").partition(";")[0]) from error
    if (entry.bytes and len(body) != entry.bytes) or (entry.sha256 and _sha256(body) != entry.sha256):
        raise DownloadError("the image at this URL is not the one that the manifest lists")
    suffixes = decoding.header(body, entry.file_name).format.suffixes
    is_large = 0 < max_image_side < max(pixels.shape[:2])
    if is_large:
        pixels = decoding.shrink(pixels, max_image_side)
    if is_large or not suffixes:  # a format that a data set is not scanned for
        return decoding.jpeg(pixels, quality=95), decoding.JPEG.suffixes[0]
    return body, suffixes[0]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
