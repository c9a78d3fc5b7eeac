"""The network and precision of features: quantized on training images only, or the fastest that is exact enough."""

import re

import numpy as np
import pytest

from imgclf import ImgclfError, engines, features, files
from imgclf.data import dataset, scan, split
from imgclf.engines import openvino
from imgclf.features import Cache, inference
from imgclf.networks import quantization


@pytest.fixture
def colours(colour_folder):
    found = scan.scan_folder("colours", colour_folder)
    dataset.write(found)
    split.write(found, split.split(found))
    return found


@pytest.fixture
def network(tiny_network, colours):
    return tiny_network.rename(files.proc_dir("colours") / files.FIXED_NETWORK)


def with_speeds(monkeypatch, *, cosine: float = 1.0, **seconds: float) -> list[list[str]]:
    """Let these be the measured seconds; return the list of what was measured."""
    measured = []

    def measure(networks, pixels, engine):
        measured.append([*networks])
        vectors = {name: np.tile([1.0, 0.0], (len(pixels), 1)) for name in networks}
        if "int8" in networks:
            vectors["int8"] = np.tile([cosine, (1 - cosine**2) ** 0.5], (len(pixels), 1))
        return vectors, {name: seconds[name] for name in networks}, {}

    monkeypatch.setattr(inference, "measure", measure)
    monkeypatch.setattr(openvino, "has_bf16", lambda: "bf16" in seconds)
    return measured


def test_f32_is_the_network_itself(colours, network):
    used = inference.prepare(colours, network)
    assert (used.network, used.precision, str(used)) == (network, "f32", "precision = f32")


def test_int8_is_a_quantized_network_beside_it(colours, network):
    used = inference.prepare(colours, network, precision="int8")
    assert (used.network, used.precision) == (network.with_name("dnn_fixed.int8.onnx"), "int8")
    assert engines.is_quantized(used.network)
    images = len(split.read(colours).train)
    assert str(used) == f"precision = int8; dnn_fixed.int8.onnx: calibrated on {images} training images"


def test_a_network_is_quantized_once_and_the_wait_announced(colours, network, capsys):
    first = inference.prepare(colours, network, precision="int8").network.stat().st_mtime_ns
    images = len(split.read(colours).train)
    said = f"quantizing dnn_fixed.onnx with {images} training images (half a minute for efficientnet_lite1)\n"
    assert capsys.readouterr().out == said
    assert inference.prepare(colours, network, precision="int8").network.stat().st_mtime_ns == first
    assert capsys.readouterr().out == ""


def test_test_images_are_not_used_for_calibration(colours, network):
    before = inference.prepare(colours, network, precision="int8").network.read_bytes()
    network.with_name("dnn_fixed.int8.onnx").unlink()
    for image in split.read(colours).test:
        colours.file(image).unlink()
    assert inference.prepare(colours, network, precision="int8").network.read_bytes() == before


@pytest.mark.parametrize("change", ["network", "split", "damage"])
def test_another_network_or_split_is_quantized_anew_without_its_old_features(change, colours, network):
    quantized = inference.prepare(colours, network, precision="int8").network
    before = files.sha256(quantized)
    old = files.proc_dir("colours") / "features" / f"dnn_fixed.int8-{before[:16]}-int8-openvino"
    old.mkdir(parents=True)
    if change == "network":
        network.write_bytes(network.read_bytes() + b"\x08\x0a")
    elif change == "split":
        split.write(colours, split.split(colours, train_fraction=0.5))
    else:
        quantized.write_bytes(b"damaged")
    inference.prepare(colours, network, precision="int8")
    assert (files.sha256(quantized) == before) == (change == "damage")
    assert not old.exists()


def test_most_calibration_images_are_those_with_the_smallest_hashes(colours, network, monkeypatch):
    monkeypatch.setattr(inference, "CALIBRATION_IMAGES", 5)
    given = []
    monkeypatch.setattr(
        quantization, "quantize", lambda path, pixels, **_: given.append(len(pixels)) or path.read_bytes()
    )
    inference.prepare(colours, network, precision="int8")
    assert given == [5]
    hashes = [image.sha256 for image in inference._training_images(colours)]
    assert hashes == sorted({image.sha256 for image in split.read(colours).train})


def test_the_pixels_of_calibration_are_bounded(colours, network, monkeypatch):
    monkeypatch.setattr(inference, "CALIBRATION_BYTES", 4 * 32 * 32 * 3 + 1)
    used = inference.prepare(colours, network, precision="int8")
    assert str(used).endswith("calibrated on 4 training images")


def test_auto_is_the_fastest_and_says_so(colours, network, monkeypatch):
    with_speeds(monkeypatch, f32=2.0, bf16=1.0, int8=0.5, cosine=0.99)
    used = inference.prepare(colours, network, precision="auto")
    assert (used.network.name, used.precision) == ("dnn_fixed.int8.onnx", "int8")
    assert (
        "precision = auto: int8, the fastest on this processor that takes at least 10% less time than f32 and has a "
        "mean cosine of at least 0.98 to it. "
        "f32 14 images/s, bf16 27 images/s (cosine to f32 1.000), int8 54 images/s (cosine to f32 0.990)"
    ) in str(used)


def test_auto_is_f32_if_that_is_nearly_as_fast(colours, network, monkeypatch):
    with_speeds(monkeypatch, f32=2.0, int8=1.9)
    used = inference.prepare(colours, network, precision="auto")
    assert used.precision == "f32" and "no other one on this processor that takes at least 10% less" in str(
        used
    )
    assert str(used).endswith(". Left out: int8 (saves less than 10% of the time)")


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_auto_leaves_out_what_the_engine_cannot_start_and_says_why(colours, network, monkeypatch, engine):
    monkeypatch.setattr(quantization, "quantize", lambda *_, **__: b"no network")
    monkeypatch.setattr(openvino, "has_bf16", lambda: False)
    used = inference.prepare(colours, network, engine=engine, precision="auto")
    assert used.precision == "f32" and "\n" not in str(used)
    assert re.search(r"\. Left out: int8 \(\w[^)]+", str(used))


def test_auto_leaves_out_what_nncf_cannot_quantize_and_says_why(colours, network, monkeypatch):
    def quantize(*_, **__):
        raise ImgclfError("dnn_fixed.onnx: NNCF cannot quantize it (IndexError: 3)")

    monkeypatch.setattr(quantization, "quantize", quantize)
    monkeypatch.setattr(openvino, "has_bf16", lambda: False)
    used = inference.prepare(colours, network, precision="auto")
    assert str(used) == (
        "precision = auto: f32. Left out: int8 (dnn_fixed.onnx: NNCF cannot quantize it (IndexError: 3))"
    )


def test_engines_are_closed_after_a_failed_measurement(network, monkeypatch):
    closed, start = [], engines.start

    def broken(*given, **options):
        ready = start(*given, **options)
        ready.run, ready.close = None, lambda: closed.append(True)
        return ready

    monkeypatch.setattr(engines, "start", broken)
    with pytest.raises(TypeError):
        inference.measure({"f32": network}, np.zeros((1, 32, 32, 3), np.uint8), "openvino")
    assert closed == [True]


def test_auto_leaves_out_what_loses_accuracy_and_says_so(colours, network, monkeypatch):
    with_speeds(monkeypatch, f32=2.0, bf16=1.0, int8=0.5, cosine=0.97)
    used = inference.prepare(colours, network, precision="auto")
    assert used.precision == "bf16"
    assert str(used).endswith("(cosine to f32 0.970). Left out: int8 (mean cosine below 0.98)")


def test_auto_is_measured_once_on_a_processor(colours, network, monkeypatch):
    measured = with_speeds(monkeypatch, f32=2.0, int8=0.5)
    first = inference.prepare(colours, network, precision="auto")
    with_speeds(monkeypatch, f32=0.1, int8=0.5)
    assert inference.prepare(colours, network, precision="auto") == first
    monkeypatch.setattr(inference, "processor", lambda engine: "another processor")
    assert inference.prepare(colours, network, precision="auto").precision == "f32"
    assert measured == [["f32", "int8"]]


def test_auto_measures_the_network_that_another_split_calibrates(colours, network, monkeypatch):
    with_speeds(monkeypatch, f32=2.0, int8=0.5, cosine=0.99)
    assert inference.prepare(colours, network, precision="auto").precision == "int8"
    split.write(colours, split.split(colours, train_fraction=0.5))
    with_speeds(monkeypatch, f32=2.0, int8=0.5, cosine=0.5)
    assert inference.prepare(colours, network, precision="auto").precision == "f32"


def test_auto_without_nncf_does_not_measure_int8_and_says_so(colours, network, monkeypatch):
    monkeypatch.setattr(quantization, "is_installed", lambda: False)
    measured = with_speeds(monkeypatch, f32=2.0, bf16=1.0)
    used = inference.prepare(colours, network, precision="auto")
    assert measured == [["f32", "bf16"]] and used.precision == "bf16"
    assert str(used).endswith("; int8 was not measured, pip install 'imgclf[int8]'")


def test_auto_is_f32_with_an_engine_that_has_nothing_else(colours, network, monkeypatch):
    monkeypatch.setattr(quantization, "is_installed", lambda: False)
    used = inference.prepare(colours, network, engine="cntk", precision="auto")
    assert (used.precision, str(used)) == ("f32", "precision = auto: f32")


def test_auto_measures_the_real_networks(colours, network, monkeypatch):
    measured, measure = [], inference.measure
    monkeypatch.setattr(inference, "measure", lambda *given: measured.append(measure(*given)) or measured[0])
    used = inference.prepare(colours, network, precision="auto")
    ((vectors, seconds, _),) = measured
    assert seconds.keys() == {"f32", "int8", *(["bf16"] if openvino.has_bf16() else [])}
    for name in seconds:
        assert f"{name} {len(vectors[name]) / seconds[name]:.0f} images/s" in str(used)
    keeping = {
        name: took
        for name, took in seconds.items()
        if inference.mean_cosine(vectors[name], vectors["f32"]) >= 0.98 and took <= 0.9 * seconds["f32"]
    }
    assert used.precision == min(keeping, key=lambda name: keeping[name], default="f32")


def test_features_of_a_quantized_network_have_a_cache_of_their_own(colours, network):
    used = inference.prepare(colours, network, precision="int8")
    f32 = Cache.for_network("colours", network)
    int8 = Cache.for_network("colours", used.network, precision="int8")
    assert features.compute(colours, used.network, int8, precision="int8") == []
    assert not f32.known() and len(int8.known()) == len(colours.images)


def test_features_in_int8_of_the_two_engines_are_kept_apart(colours, network):
    int8, f32 = (
        [
            Cache.for_network("colours", network, engine=engine, precision=precision)
            for engine in engines.ENGINES
        ]
        for precision in ("int8", "f32")
    )
    assert int8[0] != int8[1] and f32[0] == f32[1]


def test_only_the_images_that_calibrated_are_counted(colours, network):
    train = split.read(colours).train
    for image in train[:3]:
        colours.file(image).unlink()
    for _ in range(2):
        used = inference.prepare(colours, network, precision="int8")
        assert str(used).endswith(f"calibrated on {len(train) - 3} training images")


def test_unreadable_training_images_are_named_if_there_are_no_others(colours, network):
    for image in colours.images:
        colours.file(image).write_bytes(b"no image")
    with pytest.raises(ImgclfError, match="training images can be read; run 01_prepare_data again"):
        inference.prepare(colours, network, precision="int8")
