"""The border of the command line: every error that a user can correct is printed as one line."""

import errno
import io
import sys
from typing import Any

import click

from imgclf import ImgclfError

INTERRUPTED = 130  # the exit code of a command that Ctrl-C stops, as in shells


class Commands(click.Group):
    """A group of commands that prints an error as one line, without a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; what the encoding of the output lacks is printed escaped, as `\\udcfc`."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **extra)

    def invoke(self, context: click.Context) -> None:
        """Run a command.

        The exit code is 1 after an ImgclfError, or an OSError such as a folder that cannot be read; 130 after
        Ctrl-C.
        """
        try:
            super().invoke(context)
        except ImgclfError as error:
            _end(str(error))
        except KeyboardInterrupt as stop:
            _end(str(stop) or "stopped", INTERRUPTED)
        except OSError as error:
            if error.errno in (None, errno.EPIPE):  # the reader of a pipe has seen enough: click ends quietly
                raise
            place = f"{error.filename}: " if error.filename else ""
            _end(f"{place}{error.strerror}; check the path, the disk and your permissions")


def _end(message: str, code: int = 1) -> None:
    from imgclf.classifier.results import in_one_cell

    click.echo(f"imgclf: {in_one_cell(message)}", err=True)
    sys.exit(code)
