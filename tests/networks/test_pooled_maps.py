"""The maps whose average gives the features: every layout of them, and what may follow the average."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from imgclf import ImgclfError
from imgclf.networks import pooled_maps
from imgclf.networks.pooled_maps import PooledMaps

MAPS = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)  # (n, h, w, c)


@pytest.mark.parametrize(
    ("maps", "axes"),
    [
        (MAPS, (1, 2)),
        (MAPS, (-2, -3)),
        (MAPS.transpose(0, 3, 1, 2), ()),
        (MAPS.transpose(0, 3, 1, 2), (2, 3)),
        (MAPS.reshape(2, 16, 3), (1,)),
        (MAPS.reshape(2, 16, 3).transpose(0, 2, 1), (2,)),
        (MAPS.reshape(2, 16, 3).transpose(0, 2, 1)[:, :, None], (-1,)),
    ],
    ids=["nhwc", "nhwc from behind", "global", "nchw", "tokens", "nct", "nc1t"],
)
def test_maps_of_each_layout_give_the_features_of_each_position(maps, axes):
    np.testing.assert_array_equal(PooledMaps("x", axes, (), {}).features(maps), MAPS)


def test_tokens_of_no_square_grid_are_refused():
    with pytest.raises(
        ImgclfError, match="^its features are an average of 6 values, which are no square grid$"
    ):
        PooledMaps("x", (1,), (), {}).features(np.zeros((2, 6, 3), np.float32))


def graph(*after: tuple[str, list[str]], constants: dict[str, np.ndarray] | None = None):
    """A graph whose features follow from the average of its input by these nodes."""
    names = ["pooled", *(f"step {number}" for number in range(1, len(after))), "features"]
    nodes = [helper.make_node("GlobalAveragePool", ["maps"], ["pooled" if after else "features"])]
    nodes += [
        helper.make_node(operator, [names[i], *others], [names[i + 1]])
        for i, (operator, others) in enumerate(after)
    ]
    return helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )


def test_linear_operators_after_the_average_are_applied_at_each_position():
    generator = np.random.default_rng(1)
    constants = {
        "axes": np.array([2, 3]),
        "weights": generator.normal(size=(3, 5)).astype(np.float32),
        "bias": generator.normal(size=5).astype(np.float32),
        "two": np.float32(2),
    }
    after = [
        ("Squeeze", ["axes"]),
        ("MatMul", ["weights"]),
        ("Add", ["bias"]),
        ("Relu", []),
        ("Div", ["two"]),
    ]
    found = pooled_maps.find(graph(*after, constants=constants))
    features = found.features(MAPS.transpose(0, 3, 1, 2))
    pooled = np.maximum(MAPS.mean(axis=(1, 2)) @ constants["weights"] + constants["bias"], 0) / 2
    assert features.shape == (2, 4, 4, 5) and (pooled == 0).any() and (pooled > 0).any()
    np.testing.assert_allclose(features.mean(axis=(1, 2)), pooled, atol=1e-5)


@pytest.mark.parametrize("operator", ["Tanh", "HardSwish", "Softmax"])
def test_another_operator_after_the_average_is_named(operator):
    with pytest.raises(ImgclfError, match=f"^its features are no average .*, but computed by {operator}$"):
        pooled_maps.find(graph((operator, [])))


def averages(*nodes):
    """A graph of these nodes, from "maps" to "features"."""
    names = ["maps", *(f"step {number}" for number in range(1, len(nodes))), "features"]
    made = [
        helper.make_node(operator, [names[i]], [names[i + 1]], **attributes)
        for i, (operator, attributes) in enumerate(nodes)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("maps", "features")]
    return helper.make_graph(made, "averages", ends[:1], ends[1:])


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("is_from_behind", [False, True])
@pytest.mark.parametrize("is_rows_first", [False, True])
def test_averages_over_rows_then_columns_are_one(layout, keepdims, is_from_behind, is_rows_first):
    maps = MAPS if layout == "nhwc" else MAPS.transpose(0, 3, 1, 2)
    first, second = [layout.index("h"), layout.index("w")][:: 1 if is_rows_first else -1]
    if not keepdims and second > first:
        second -= 1
    if is_from_behind:
        first, second = first - 4, second - (4 if keepdims else 3)
    found = pooled_maps.find(
        averages(
            ("ReduceMean", {"axes": [first], "keepdims": keepdims}),
            ("Identity", {}),
            ("ReduceMean", {"axes": [second], "keepdims": keepdims}),
        )
    )
    assert found.name == "maps"
    np.testing.assert_array_equal(found.features(maps), MAPS)


@pytest.mark.parametrize(
    "nodes",
    [
        [("ReduceMean", {"axes": [3]}), ("Flatten", {"axis": 2}), ("ReduceMean", {"axes": [2]})],
        [("ReduceMean", {"axes": [3]}), ("ReduceMean", {"axes": [-2]})],
        [("ReduceMean", {"axes": [3]}), ("GlobalAveragePool", {})],
        [("AveragePool", {"kernel_shape": [1, 4]}), ("GlobalAveragePool", {})],
    ],
    ids=["reshaped", "axes of both ends", "pooled", "pooled by rows"],
)
def test_other_averages_of_averages_are_refused(nodes):
    with pytest.raises(
        ImgclfError, match=r"^its features are no .*, but computed by an average of averages$"
    ):
        pooled_maps.find(averages(*nodes))


def test_maps_that_were_made_smaller_are_the_maps():
    nodes = [("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}), ("GlobalAveragePool", {})]
    assert pooled_maps.find(averages(*nodes)).name == "step 1"
