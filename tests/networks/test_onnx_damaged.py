"""ONNX files that are incomplete, damaged or hostile: each is refused with a sentence."""

import re

import numpy as np
import onnx
import pytest

from imgclf import ImgclfError
from imgclf.networks import backbones
from support.onnx_files import BODY, DENSE, close, expected, features, made, noise


def refused(path, sentence):
    with pytest.raises(ImgclfError, match=re.escape(sentence)) as caught:
        str(backbones.choose(str(path)))
    assert "\n" not in str(caught.value)


def with_external_data(path):
    made(path, *BODY, *DENSE)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    return path


def changed_location(path, location):
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    onnx.save(model, path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin"])
def test_external_data_outside_of_the_folder_are_not_read(location, tmp_path):
    (tmp_path / "models").mkdir()
    path = with_external_data(tmp_path / "models" / "net.onnx")
    (tmp_path / "models" / "weights.bin").rename(tmp_path / "secret.bin")
    changed_location(path, location)
    refused(
        path,
        f"net.onnx: its weights are in {location}, outside of its folder, which is not read; "
        "export it again with its weights beside it",
    )


def test_external_data_behind_a_link_are_not_read(tmp_path):
    (tmp_path / "models").mkdir()
    path = with_external_data(tmp_path / "models" / "net.onnx")
    (tmp_path / "models" / "weights.bin").rename(tmp_path / "secret.bin")
    (tmp_path / "models" / "weights.bin").symlink_to(tmp_path / "secret.bin")
    refused(
        path,
        "net.onnx: its weights are in weights.bin, which is a link, as in the cache of Hugging Face, and is not "
        "followed; copy both files into one folder",
    )


@pytest.mark.parametrize("is_there", [True, False])
def test_external_data_that_are_missing_or_cut_off_are_named(is_there, tmp_path):
    path = with_external_data(tmp_path / "net.onnx")
    close(features(path, noise(2)), expected(noise(2)))
    data = tmp_path / "weights.bin"
    if is_there:
        data.write_bytes(data.read_bytes()[:100])
        refused(path, "damaged")
    else:
        data.unlink()
        refused(
            path, "its weights are in a second file, weights.bin, which is missing or damaged; put it beside"
        )


def test_a_tensor_with_fewer_bytes_than_its_shape_is_rejected(tmp_path):
    model = onnx.load(made(tmp_path / "net.onnx", *BODY, *DENSE))
    (kernel,) = (tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    kernel.dims[:] = [10**6, 10**6, 3, 3]
    onnx.save(model, tmp_path / "net.onnx")
    refused(
        tmp_path / "net.onnx",
        "its tensor kernel has shape [1000000, 1000000, 3, 3], but holds",
    )


def test_a_tensor_too_large_for_the_memory_is_rejected_before_it_is_computed(tmp_path):
    nodes = (("ConstantOfShape", "many", "zeros"), ("ReduceSum", "zeros", "sum", {"keepdims": 0}))
    path = made(
        tmp_path / "net.onnx", *nodes, *BODY, ("Flatten", "means", "vector"), ("Add", "vector sum", "out")
    )
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([10**6, 10**7]), "many"))
    onnx.save(model, path)
    refused(
        path, "its tensor zeros has shape [1000000, 10000000] for 1 image of 32 x 32 pixels, too much for"
    )


def test_a_graph_with_a_cycle_is_rejected(tmp_path):
    path = made(tmp_path / "net.onnx", ("Add", "pixels b", "a"), ("Relu", "a", "b"), ("Identity", "a", "out"))
    refused(path, "net.onnx: a node uses what is computed after it, or nowhere; the file is damaged")


def test_a_node_that_takes_its_own_output_is_rejected(tmp_path):
    path = made(tmp_path / "net.onnx", *BODY, ("Add", "means out", "out"))
    refused(path, "net.onnx: a node uses what is computed after it, or nowhere; the file is damaged")


def test_a_fixed_size_that_fails_is_no_matter_of_the_input_size(tmp_path):
    path = made(
        tmp_path / "net.onnx",
        BODY[0],
        ("Add", "maps places", "placed"),
        ("GlobalAveragePool", "placed", "out"),
        shape=("N", 3, 48, 48),
    )
    refused(path, "net.onnx: inference fails for 1 image of 48 x 48 pixels; export it again")
