"""Run the notebooks in place, in order, in a fresh data folder, and clean them: `make notebooks`."""

import os
import tempfile

import nbformat
from nbclient import NotebookClient

from imgclf import files
from imgclf.experiments import notebooks


def clean(notebook: nbformat.NotebookNode) -> None:
    """Take out what differs from run to run: times, widget state, the kernel's own name and version."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        for output in cell.get("outputs", []):
            if "data" in output:
                output["data"].pop(
                    "application/vnd.jupyter.widget-view+json", None
                )  # its model is gone with the kernel


def main() -> None:
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        for path in notebooks.paths():
            notebook = nbformat.read(path, as_version=4)
            notebooks.parameters_cell(notebook, path.name).source = notebooks.cell_source(path.name[:2])
            NotebookClient(
                notebook,
                kernel_name="python3",
                store_widget_state=False,
                coalesce_streams=True,
                extra_arguments=["--log-level=ERROR"],
                resources={"metadata": {"path": str(path.parent)}},
            ).execute()
            clean(notebook)
            files.write_text(path, nbformat.writes(notebook).replace(data, "~/imgclf_data") + "\n")
            print(path.name)


if __name__ == "__main__":
    main()
