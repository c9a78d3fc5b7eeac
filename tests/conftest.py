"""Real JPEGs, a small real network, and a data folder of its own for each test."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imgclf import images, scan
from imgclf.annotations import Annotations

SHARED = Path(__file__).parents[2] / "shared" / "data"  # photographs that don't come with the repository
COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 210)}


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$IMGCLF_DATA, empty."""
    folder = tmp_path / "imgclf_data"
    monkeypatch.setenv("IMGCLF_DATA", str(folder))
    return folder


@pytest.fixture
def shared_data() -> Path:
    if not SHARED.exists():
        pytest.skip("needs the photographs in ../shared/data, which don't come with the repository")
    return SHARED


def picture(colour: tuple[int, int, int], seed: int, *, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture of one main colour, with blotches that differ by seed; (height, width, 3) uint8."""
    random = np.random.default_rng(seed)
    blotches = random.integers(-60, 60, (6, 8, 3)).repeat(-(-height // 6), 0).repeat(-(-width // 8), 1)[:height, :width]
    return (np.array(colour) + blotches).clip(0, 255).astype(np.uint8)


def write_colours(folder: Path) -> Path:
    """A data set that is easy to learn: 12 JPEGs of each of three colours, in label folders."""
    for k, (label, colour) in enumerate(COLOURS.items()):
        (folder / label).mkdir(parents=True)
        for i in range(12):
            (folder / label / f"{i:02d}.jpg").write_bytes(images.jpeg(picture(colour, seed=100 * k + i)))
    return folder


@pytest.fixture
def colour_folder(tmp_path: Path) -> Path:
    """A data set of three labels with 12 images each; see `write_colours`."""
    return write_colours(tmp_path / "colours")


@pytest.fixture
def distinct_folder(colour_folder: Path) -> Path:
    """The same with file names that differ between labels (b00.jpg, g00.jpg, r00.jpg), so that none stands in another's way when it is relabelled."""
    for path in [*colour_folder.glob("*/*.jpg")]:
        path.rename(path.with_name(f"{path.parent.name[0]}{path.name}"))
    return colour_folder


@pytest.fixture
def notes(distinct_folder: Path) -> Annotations:
    return Annotations(scan.look_through("colours", distinct_folder))


def write_tiny_network(path: Path) -> Path:
    """An ONNX network for images of 32 x 32 pixels: one convolution with random weights, 8 features."""
    weights = np.random.default_rng(0).normal(size=(8, 3, 5, 5)).astype(np.float32) / 255
    nodes = [helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
             helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
             helper.make_node("Conv", ["planes", "weights"], ["maps"], strides=[2, 2]),
             helper.make_node("Relu", ["maps"], ["positive"]),
             helper.make_node("ReduceMean", ["positive", "axes"], ["features"], keepdims=0)]
    graph = helper.make_graph(nodes, "tiny", [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 32, 32, 3])],
                              [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 8])],
                              [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([2, 3]), "axes")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def tiny_network(tmp_path: Path) -> Path:
    """A network for images of 32 x 32 pixels; see `write_tiny_network`."""
    return write_tiny_network(tmp_path / "dnn_fixed.onnx")
