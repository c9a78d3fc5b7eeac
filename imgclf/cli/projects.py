"""Commands that make and change a project, and open it in JupyterLab."""

import os
from pathlib import Path

import click

from imgclf import ImgclfError, files

JUPYTER_CONFIG = Path(__file__).parent  # its labconfig/ switches JupyterLab's news and checks for updates off


@click.command()
@click.argument("folder", metavar="FOLDER")
@click.option(
    "--images", metavar="IMAGES", help="Folder of label folders, or its URL, which is used in place."
)
@click.option(
    "--name", default="", metavar="NAME", help="Name of the data set. Default: that of IMAGES, or of FOLDER."
)
@click.option(
    "--update",
    "is_update",
    is_flag=True,
    help="Bring the notebooks of this version into a project. Copies of those that you changed are kept.",
)
def new(folder: str, images: str | None, name: str, is_update: bool) -> None:
    """Make a project: a folder with the notebooks, their parameters, results and run history.

    Commands and notebooks that start in it, or below it, use its parameters, imgclf.toml, and write into it.

    Example: imgclf new ~/fruit --images ~/pictures/fruit
    """
    from imgclf.data import dataset
    from imgclf.experiments import projects

    path = files.absolute(folder, source="FOLDER")
    if is_update:
        if images or name:
            raise click.UsageError("--update takes neither --images nor --name; change them with imgclf set")
        click.echo("\n".join(projects.update(path)) or "nothing to update")
        return
    given = dataset.images_folder("", images, source="--images") if images else None
    values = projects.create(path, images=given, name=name)
    click.echo(f"made {path}\n\n{projects.next_steps(path, values)}")


@click.command("set")
@click.argument("assignments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--defaults", is_flag=True, help="Restore all defaults, but keep dataset_name and images_dir.")
def set_parameters(assignments: tuple[str, ...], defaults: bool) -> None:
    """Set parameters of the project, in its imgclf.toml.

    A notebook uses them when its first code cell runs, also one that is open in JupyterLab.

    Example: imgclf set classifier=dnn epochs=10
    """
    from imgclf import parameters
    from imgclf.experiments import projects

    if bool(assignments) == defaults:
        raise click.UsageError("give NAME=VALUE or --defaults")
    changed = projects.set_values(None if defaults else parameters.parse(assignments))
    click.echo(f"changed {files.PROJECT_FILE}" if changed else "nothing to change")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION]...")
def lab(options: tuple[str, ...]) -> None:
    """Open the project in JupyterLab. OPTIONs are those of jupyter lab.

    JupyterLab looks for neither news nor updates.

    Example: imgclf lab --no-browser
    """
    from imgclf.experiments import projects

    own = projects.lab_options()
    try:
        from jupyterlab.labapp import LabApp
    except ModuleNotFoundError as error:
        raise ImgclfError(f"imgclf lab needs the package {error.name}; pip install jupyterlab") from error
    known = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, [known, str(JUPYTER_CONFIG)]))
    LabApp.launch_instance([*own, *options])
