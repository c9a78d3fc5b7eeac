"""Search for images on the web or on disk: services, and a run of queries that resumes when interrupted."""

from imgclf import ImgclfError
from imgclf.collect.search.brave import Brave
from imgclf.collect.search.commons import Commons
from imgclf.collect.search.inaturalist import INaturalist
from imgclf.collect.search.local_folder import LocalFolder
from imgclf.collect.search.openverse import Openverse
from imgclf.collect.search.protocol import Answer, Found, ImageSearch
from imgclf.collect.search.running import Hit, SearchResult, run, write_manifest

__all__ = [
    "SERVICES",
    "Answer",
    "Found",
    "Hit",
    "ImageSearch",
    "SearchResult",
    "run",
    "service",
    "write_manifest",
]

WEB = {each.name: each for each in (Openverse, Commons, INaturalist, Brave)}
SERVICES = (LocalFolder.name, *WEB)


def service(search: str, *, url: str = "", folder: str = "", commercial_use: bool = False) -> ImageSearch:
    """The search of one of `SERVICES`.

    Parameters
    ----------
    url : of another server of the same kind; "": the service's own.
    folder : to search with "folder"; "": that of the demo data set.
    commercial_use : whether to leave out images whose licence, as stated, does not allow commercial use.

    Raises
    ------
    ImgclfError : there is no such service or folder, it needs a key or contact, or it knows no licences.
    """
    if search == LocalFolder.name:
        return LocalFolder(folder=folder, commercial_use=commercial_use)
    if search not in WEB:
        raise ImgclfError(f"search_service='{search}': is not one of {', '.join(SERVICES)}")
    if url and not url.startswith(("http://", "https://")):
        raise ImgclfError(f"search_url='{url}': does not begin with http:// or https://; correct it")
    return WEB[search](url=url, commercial_use=commercial_use)
