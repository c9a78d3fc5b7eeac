"""Engines agree, keep the order of images, and stay usable after errors of their source or consumer."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from imgclf import ImgclfError, engines
from imgclf.cntk import process
from imgclf.engines import openvino
from imgclf.parameters import PARAMETERS
from support.networks import exported, noise

both = pytest.mark.parametrize("engine", engines.ENGINES)


def one_by_one(network: Path, images: np.ndarray) -> np.ndarray:
    """The features of each image, computed in a batch of one by the reference."""
    reference = engines.start(network, engine="onnxruntime")
    return np.concatenate(
        [features for (features,) in reference.run(images[i : i + 1] for i in range(len(images)))]
    )


def batches(images: np.ndarray, size: int = 2):
    return (images[i : i + size] for i in range(0, len(images), size))


@pytest.mark.slow
def test_engines_agree_on_a_real_network():
    images = noise(5)
    ((expected,),) = engines.start(exported(), engine="onnxruntime").run([images])
    ((found,),) = engines.start(exported(), engine="openvino", batch_size=5).run([images])
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    assert found.dtype == expected.dtype == np.float32


@both
@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_an_engine_that_is_closed_or_dropped_leaves_no_thread(engine, how, tiny_network):
    def count() -> int:
        started = engines.start(tiny_network, engine=engine)
        assert len(list(started.run(batches(noise(3, 32))))) == 2
        if how == "closed":
            started.close()
        del started
        return len(os.listdir("/proc/self/task"))

    first = [count() for _ in range(3)][-1]
    last = [count() for _ in range(20)][-1]
    assert last < first + 10, "of 20; a thread that another test left may start one or two"


@both
def test_results_are_in_the_order_of_many_small_batches(engine, tiny_network):
    images = noise(101, 32)  # 50 batches of two and a last one of one image
    found = [
        features
        for (features,) in engines.start(tiny_network, engine=engine, batch_size=2).run(batches(images))
    ]
    assert [len(part) for part in found] == [2] * 50 + [1]
    np.testing.assert_allclose(np.concatenate(found), one_by_one(tiny_network, images), rtol=1e-5, atol=1e-5)


@both
def test_a_batch_shorter_than_the_batch_size_has_as_many_results(engine, tiny_network):
    ((found,),) = engines.start(tiny_network, engine=engine, batch_size=8).run([noise(3, 32)])
    np.testing.assert_allclose(found, one_by_one(tiny_network, noise(3, 32)), rtol=1e-5, atol=1e-5)


@both
def test_no_batches_have_no_results(engine, tiny_network):
    assert list(engines.start(tiny_network, engine=engine).run([])) == []


@both
def test_engine_is_usable_after_its_consumer_stopped_early(engine, tiny_network):
    images = noise(40, 32)
    ready = engines.start(tiny_network, engine=engine, batch_size=2)
    stopped = ready.run(batches(images))
    next(stopped)
    stopped.close()
    again = np.concatenate([features for (features,) in ready.run(batches(images[::-1]))])
    np.testing.assert_allclose(again, one_by_one(tiny_network, images[::-1]), rtol=1e-5, atol=1e-5)


@both
def test_engine_is_usable_after_its_source_failed(engine, tiny_network):
    def failing():
        yield from batches(noise(6, 32))
        raise OSError("the disk is gone")

    ready = engines.start(tiny_network, engine=engine, batch_size=2)
    with pytest.raises(OSError, match="the disk is gone"):
        list(ready.run(failing()))
    assert len(list(ready.run(batches(noise(4, 32))))) == 2


@both
def test_network_may_be_given_as_its_content(engine, tiny_network):
    ((from_content,),) = engines.start(tiny_network.read_bytes(), engine=engine, batch_size=2).run(
        [noise(2, 32)]
    )
    ((from_path,),) = engines.start(tiny_network, engine=engine, batch_size=2).run([noise(2, 32)])
    assert (from_content == from_path).all()


@both
def test_engine_has_its_precision(engine, tiny_network):
    assert engines.start(tiny_network, engine=engine).precision == "f32"


def test_openvino_respects_the_cpu_quota(tiny_network, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)  # of the machine
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # stands for a container's quota: joblib reads both
    assert engines.start(tiny_network, engine="openvino").threads == 1


def test_engines_are_those_that_the_parameter_allows(tiny_network):
    assert (
        (*engines.ENGINES, engines.CNTK)
        == PARAMETERS["engine"].allowed
        == ("openvino", "onnxruntime", "cntk")
    )


@both
@pytest.mark.parametrize("content", [b"", b"this is no network", bytes(range(256))])
def test_a_file_that_is_no_network_is_rejected_by_name(engine, content, tmp_path):
    path = tmp_path / "letter.onnx"
    path.write_bytes(content)
    with pytest.raises(
        ImgclfError, match=r"letter\.onnx: not an ONNX network that .* can read; write it again"
    ):
        engines.start(path, engine=engine)


@both
def test_content_that_is_no_network_is_rejected(engine):
    with pytest.raises(ImgclfError, match="the network: not an ONNX network"):
        engines.start(b"this is no network", engine=engine)


@both
def test_a_missing_network_is_reported(engine, tmp_path):
    with pytest.raises(
        ImgclfError, match=r"gone\.onnx: no such file; run the notebook that writes this network first"
    ):
        engines.start(tmp_path / "gone.onnx", engine=engine)


def test_unknown_engine_lists_the_known_ones(tiny_network):
    with pytest.raises(ImgclfError, match="engine='tensorrt': must be one of openvino, onnxruntime, cntk"):
        engines.start(tiny_network, engine="tensorrt")


def test_error_without_cntk_names_the_command_that_installs_it(tiny_network, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "HOME", tmp_path / ".cntk")
    with pytest.raises(
        ImgclfError, match=r"CNTK is not installed \(.*\.cntk is missing or unfinished\); run `make cntk`"
    ):
        engines.start(tiny_network, engine="cntk")


def test_bf16_is_rejected_where_the_processor_does_not_support_it(tiny_network, monkeypatch):
    monkeypatch.setattr(openvino, "has_bf16", lambda: False)
    with pytest.raises(
        ImgclfError, match="precision='bf16': this processor does not support bfloat16; use 'f32' or 'auto'"
    ):
        engines.start(tiny_network, precision="bf16")


def test_bf16_is_rejected_by_onnxruntime(tiny_network):
    with pytest.raises(
        ImgclfError, match="precision='bf16': onnxruntime computes in f32; use engine='openvino'"
    ):
        engines.start(tiny_network, engine="onnxruntime", precision="bf16")


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_int8_of_a_network_that_is_not_quantized_is_refused(engine, tiny_network):
    with pytest.raises(
        ImgclfError, match=r"precision='int8': dnn_fixed\.onnx is not quantized; run 03_run_dnn"
    ):
        engines.start(tiny_network, engine=engine, precision="int8")


def test_int8_is_rejected_by_cntk():
    with pytest.raises(ImgclfError, match="precision='int8': cntk computes in f32; use engine='openvino'"):
        engines.resolved_precision("cntk", "int8")


@pytest.mark.parametrize(("has", "resolved"), [(True, "bf16"), (False, "f32")])
def test_auto_is_bf16_if_the_processor_supports_it(has, resolved, monkeypatch):
    monkeypatch.setattr(openvino, "has_bf16", lambda: has)
    assert engines.resolved_precision("openvino", "auto") == resolved
    assert (
        engines.resolved_precision("onnxruntime", "auto")
        == engines.resolved_precision("openvino", "f32")
        == "f32"
    )


@both
def test_auto_runs_on_this_processor(engine, tiny_network):
    ready = engines.start(tiny_network, engine=engine, precision="auto", batch_size=2)
    ((found,),) = ready.run([noise(2, 32)])
    np.testing.assert_allclose(found, one_by_one(tiny_network, noise(2, 32)), rtol=0.05, atol=0.05)
    assert ready.precision in ("f32", "bf16")


@pytest.mark.slow
def test_bf16_is_exact_to_two_digits():
    if not openvino.has_bf16():
        pytest.skip("needs a processor with bfloat16")
    ((exact,),) = engines.start(exported(), batch_size=2).run([noise(2)])
    ((coarse,),) = engines.start(exported(), precision="bf16", batch_size=2).run([noise(2)])
    assert 0 < np.abs(coarse - exact).max() <= 0.05 * np.abs(exact).max()


def test_input_size_is_read_from_the_network(tiny_network):
    assert engines.preprocessing(tiny_network).input_size == 32


def test_input_size_of_a_missing_network_is_an_error(tmp_path):
    with pytest.raises(ImgclfError, match=r"gone\.onnx: no such file"):
        engines.preprocessing(tmp_path / "gone.onnx")


@pytest.mark.parametrize("content", [b"", b"this is no network"])
def test_input_size_of_another_file_is_an_error(content, tmp_path):
    (tmp_path / "letter.onnx").write_bytes(content)
    with pytest.raises(ImgclfError, match=r"letter\.onnx: not an ONNX network for images; write it again"):
        engines.preprocessing(tmp_path / "letter.onnx")


@pytest.mark.parametrize("shape", [[0, 32, 48, 3], [0, 32, 32, 1], [0, 3, 32, 32]])
def test_input_that_is_no_square_colour_image_is_rejected(shape, tiny_network):
    model = onnx.load(tiny_network)
    for axis, length in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        axis.dim_value = length
    onnx.save(model, tiny_network)
    with pytest.raises(ImgclfError, match=r"its input is \[.*\], not \(N, S, S, 3\)"):
        engines.preprocessing(tiny_network)
