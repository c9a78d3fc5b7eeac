"""Real services of a small model, and images to ask them about."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.classifiers import trained
from support.networks import write_tiny_network
from support.pictures import write_colours
from support.serving import Server, running

Serve = Callable[..., Server]


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier.onnx of blue, green and red."""
    folder = tmp_path_factory.mktemp("served")
    return trained(
        write_tiny_network(folder / "dnn_fixed.onnx"),
        write_colours(folder / "colours"),
        parameters={"dataset_name": "colours"},
        metrics={"held_out_accuracy": 0.5},
        temperature=1.0,
    )


@pytest.fixture(scope="module")
def serve(model: Path) -> Iterator[Serve]:
    """Starts services that end with the test file; see `running`."""
    with ExitStack() as stack:
        yield lambda *options, **settings: stack.enter_context(running(model, *options, **settings))


@pytest.fixture(scope="package")
def server(model: Path) -> Iterator[Server]:
    """A service with all defaults, one for all test files."""
    with running(model) as started:
        yield started
