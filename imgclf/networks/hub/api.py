"""Requests to the Hugging Face Hub by `huggingface_hub`, and its cache: commit, licence and files of a model.

Some rules of `imgclf.downloads` do not apply here, since the library has no parameter for them: it uses
proxies for local addresses, too, and does not limit the size of an answer of the API. Files are fetched by
`imgclf.networks.weights`, where these rules, a limit of the size and the hash apply.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf import ImgclfError, __version__, downloads, files
from imgclf.downloads import PERMANENT, TRANSIENT, UNREACHABLE, DownloadError

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo
    from huggingface_hub.errors import HfHubHTTPError

MISSING = "a model of the Hugging Face Hub needs packages that are not installed; pip install 'imgclf[hub]'"
DEFAULT = "main"  # the revision without a name
COMMIT = re.compile("[0-9a-f]{40}")
CONFIG, CARD = "config.json", "README.md"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
TRUE = ("1", "ON", "YES", "TRUE")  # values of these variables, as `huggingface_hub` understands them
MAX_LICENCE = 60  # letters that are shown


@dataclass(frozen=True)
class File:
    """A file of a model.

    Attributes
    ----------
    size : in bytes; 0: unknown.
    digest : its sha256, in 64 hexadecimal digits, if it is a large one; else its hash in git, in 40.
    """

    size: int
    digest: str

    def is_whole(self, path: Path) -> bool:
        """Whether the file of a path has this hash."""
        if len(self.digest) == 64:
            return files.sha256(path) == self.digest
        from hashlib import sha1

        content = path.read_bytes()
        return sha1(b"blob %d\0" % len(content) + content).hexdigest() == self.digest


@dataclass(frozen=True)
class Listing:
    """A commit of a model: its hash, the licence that its card states (empty: none), and all its files."""

    commit: str
    licence: str
    files: Mapping[str, File]


def ask(repository: str, revision: str) -> Listing:
    """Return what the Hub says of a revision of a model; offline what the cache of `huggingface_hub` has.

    Parameters
    ----------
    repository : OWNER/NAME. revision : a branch, a tag or a commit.

    Raises
    ------
    ImgclfError : there is no such model or revision, it may not be read, the Hub cannot be reached, or
        `huggingface_hub` is not installed.
    """
    api = _library()
    if variable := offline():
        listing = _cached(repository, revision)
        reason = f"{variable} is set; unset it"
    else:
        downloads.client("asks the Hub").close()  # says what is wrong with proxies and certificates
        try:
            return downloads.retry(
                lambda: _asked(api, repository, revision),
                attempts=downloads.ATTEMPTS,
                back_off_seconds=downloads.BACK_OFF_SECONDS,
            )
        except DownloadError as error:
            listing = _cached(repository, revision) if error.kind == UNREACHABLE else None
            reason = f"{api.endpoint} could not be asked ({error.reason}); run again on another network"
    if listing is None:
        raise ImgclfError(
            f"hf/{repository}: is not in {files.data_dir() / 'networks' / 'hf'} yet, and {reason}, "
            "or copy its folder there from a machine that has it"
        )
    return listing


def offline() -> str:
    """Return the name of the variable that forbids requests; empty if none does."""
    return next((name for name in OFFLINE if os.environ.get(name, "").upper() in TRUE), "")


def url(repository: str, commit: str, file: str) -> str:
    """Return the address of a file."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, file, revision=commit, endpoint=_library().endpoint)


def authorization() -> dict[str, str]:
    """Return the header with the token of the environment, or of `hf auth login`; nothing without one."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    _library()
    return {name: text for name, text in build_hf_headers().items() if name == "authorization"}


def cached_file(repository: str, commit: str, file: str) -> Path | None:
    """Return the path of a file in the cache of `huggingface_hub`; None if it does not have it."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, revision=commit)
    return Path(found) if isinstance(found, str) else None


def _library() -> "HfApi":
    """Return the API of the Hub, with telemetry off.

    Raises
    ------
    ImgclfError : `huggingface_hub` is not installed, or HF_ENDPOINT is no URL.
    """
    try:
        from huggingface_hub import HfApi, constants
    except ImportError as error:
        raise ImgclfError(MISSING) from error
    constants.HF_HUB_DISABLE_TELEMETRY = True  # if it was imported before the variable was set
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    if not re.match("https?://.", endpoint):
        raise ImgclfError(f"HF_ENDPOINT={endpoint}: must begin with https:// or http://; correct or unset it")
    return HfApi(endpoint=endpoint, library_name="imgclf", library_version=__version__)


def _asked(api: "HfApi", repository: str, revision: str) -> Listing:
    """Return what the API says.

    Raises
    ------
    DownloadError : another attempt may succeed. ImgclfError : it would not.
    """
    with _reworded(api, repository, revision):
        info = api.model_info(
            repository, revision=revision, files_metadata=True, timeout=downloads.READ_SECONDS
        )
        listing = _listing(info)
        if CONFIG in listing.files:  # of a gated model anybody may have the list, but not the files
            api.get_hf_file_metadata(
                url=url(repository, listing.commit, CONFIG), timeout=downloads.READ_SECONDS
            )
    if COMMIT.fullmatch(revision) and revision != listing.commit:
        raise ImgclfError(
            f"{api.endpoint}: returns commit {listing.commit} of hf/{repository} instead of {revision}; "
            "correct HF_ENDPOINT or the revision"
        )
    return listing


def _listing(info: "ModelInfo") -> Listing:
    """Return what the library read of an answer.

    Raises
    ------
    ValueError, TypeError : it is not what the Hub says.
    """
    if not COMMIT.fullmatch(info.sha or ""):
        raise ValueError("no commit")
    found = {}
    for sibling in info.siblings or ():
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or ""
        if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", digest):
            found[sibling.rfilename] = File(int(sibling.size or 0), digest)
    if info.siblings and not found:
        raise ValueError("no hashes")
    return Listing(str(info.sha), _licence(info.card_data), found)


def _licence(card: object) -> str:
    """Return the licence that a model card states, as one line; empty if it states none."""
    stated = getattr(card, "license", None)
    if stated == "other":
        stated = getattr(card, "license_name", None) or stated
    text = ", ".join(map(str, stated)) if isinstance(stated, list) else str(stated or "")
    return "".join(filter(str.isprintable, text))[:MAX_LICENCE]


def _cached(repository: str, revision: str) -> Listing | None:
    """Return what the cache of `huggingface_hub` has of a revision; None without settings and weights."""
    config = cached_file(repository, revision, CONFIG)
    if config is None or not COMMIT.fullmatch(config.parent.name):
        return None
    found = {}
    for path in filter(Path.is_file, config.parent.iterdir()):
        digest = path.resolve().name  # a link to a file that has its hash as its name
        is_named = re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", digest)
        found[path.name] = File(path.stat().st_size, digest if is_named else files.sha256(path))
    if not any(name.endswith(".safetensors") for name in found):
        return None
    return Listing(config.parent.name, _licence_of_card(config.with_name(CARD)), found)


def _licence_of_card(path: Path) -> str:
    from huggingface_hub import ModelCard

    return _licence(ModelCard.load(path, ignore_metadata_errors=True).data) if path.is_file() else ""


@contextmanager
def _reworded(api: "HfApi", repository: str, revision: str) -> Iterator[None]:
    """Raise errors of the library as sentences, or as a DownloadError if another attempt may succeed."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HFValidationError as error:
        raise ImgclfError(f"backbone='hf/{repository}': not a name of the Hub; {error}") from error
    except OfflineModeIsEnabled as error:
        raise DownloadError(f"{OFFLINE[0]} was set when Python started", UNREACHABLE) from error
    except HfHubHTTPError as error:
        raise _refusal(error, api.endpoint, repository, revision) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        is_permanent = isinstance(error, (httpx2.TooManyRedirects, httpx2.InvalidURL))
        is_down = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError))
        kind = PERMANENT if is_permanent else UNREACHABLE if is_down else TRANSIENT
        raise DownloadError(str(error)[: downloads.MAX_REASON] or type(error).__name__, kind) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ImgclfError(
            f"{api.endpoint}: does not answer as the Hugging Face Hub does, perhaps the page of a proxy or a "
            "login; correct HF_ENDPOINT, or run again on another network"
        ) from error


def _refusal(error: "HfHubHTTPError", endpoint: str, repository: str, revision: str) -> Exception:
    """Return what a status code of the Hub means."""
    from huggingface_hub import errors

    name, status = f"hf/{repository}", error.response.status_code
    page = f"{endpoint}/{repository}"
    if isinstance(error, errors.GatedRepoError):
        return ImgclfError(
            f"{name}: is gated; accept its terms at {page}, and set HF_TOKEN to a token of the account that "
            "did (a request may have to be granted first)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ImgclfError(
            f"{name}: has no revision {revision}; name a branch, a tag or a commit of {page}/commits/main, "
            f"or none: backbone={name}"
        )
    if isinstance(error, errors.DisabledRepoError):
        return ImgclfError(f"{name}: is disabled by its owner or by the Hub; choose another model")
    if "Invalid credentials" in (error.server_message or ""):
        return ImgclfError(f"{endpoint}: does not accept the token; correct HF_TOKEN, or run hf auth login")
    if status in (401, 403, 404):
        return ImgclfError(
            f"{name}: {endpoint} has no such model, or a private one (HTTP {status}); correct the name, or "
            "set HF_TOKEN to a token of an account that may read it"
        )
    try:
        downloads.check_status(status, error.response.headers.get("retry-after", ""))
    except DownloadError as failure:
        return failure
    return DownloadError(f"HTTP {status}")
