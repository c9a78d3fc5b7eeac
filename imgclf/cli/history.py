"""The command that opens the run history on MLflow's own page."""

import signal
import time
import webbrowser
from contextlib import suppress
from types import FrameType

import click


@click.command()
@click.option(
    "--port",
    default=0,
    show_default="any free port",
    type=click.IntRange(0, 65535),
    help="Port to listen on.",
)
@click.option("--no-browser", is_flag=True, help="Print the URL only.")
def history(port: int, no_browser: bool) -> None:
    """Open the run history in MLflow, in the browser.

    First, all runs are handed in. The page is served to this machine alone, until Ctrl-C. Names, notes and
    tags that you change there are taken over when it ends, or with the next run. If MLFLOW_TRACKING_URI is a
    server, its page is opened.

    Example: imgclf history --no-browser
    """
    from imgclf.experiments.history import tracking

    if sentence := tracking.hand_in_all(seconds=None, is_forced=True):
        click.echo(sentence, err=True)
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, _stop)  # else the server would go on alone
    with suppress(KeyboardInterrupt), tracking.page(port) as url:
        click.echo(url)
        if not no_browser:
            webbrowser.open(url)
        if not tracking.is_server():
            click.echo("Ctrl-C closes it", err=True)
            while True:
                time.sleep(3600)
    if sentence := tracking.hand_in_all(is_forced=True):
        click.echo(sentence, err=True)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
