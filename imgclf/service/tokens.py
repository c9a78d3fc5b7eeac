"""Authentication: where the bearer token comes from, and when one is required."""

import os
from pathlib import Path

from imgclf import ImgclfError
from imgclf.downloads import is_loopback

TOKEN_VARIABLE = "IMGCLF_TOKEN"
SHORTEST_TOKEN = 16  # characters


def read(path: Path | None) -> str | None:
    """Return the token from a file, or else from `$IMGCLF_TOKEN`; None if there is neither.

    Raises
    ------
    ImgclfError : the file cannot be read, or its content is not a valid token.
    """
    if path is None:
        token, where = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if token is None:
            return None
    else:
        where = str(path)
        try:
            token = path.read_text(encoding="ascii")
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
            raise ImgclfError(
                f"{path}: {reason}; name a file that holds the token and nothing else"
            ) from error
    token = token.strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ImgclfError(
            f"{where}: a token is at least {SHORTEST_TOKEN} ASCII characters without spaces; "
            "make one by openssl rand -hex 32"
        )
    return token


def check_safe(host: str, token: str | None) -> None:
    """Refuse to bind an address that other machines can reach without a token.

    Raises
    ------
    ImgclfError : the host is not a loopback address, and there is no token.
    """
    if token is None and not is_loopback(host):
        raise ImgclfError(
            f"--host {host}: other machines may reach it, so it requires a token; "
            f"set {TOKEN_VARIABLE}, or name a file with --token-file"
        )
