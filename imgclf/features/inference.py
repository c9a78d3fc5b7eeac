"""The network and the precision that features are computed with: as given, quantized, or the fastest here."""

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from imgclf import ImgclfError, engines, files, svm
from imgclf.data.dataset import Dataset, Image
from imgclf.features import image_sources
from imgclf.images.loading import Skipped, load
from imgclf.networks import quantization

CALIBRATION_IMAGES, CALIBRATION_BYTES = 300, 100_000_000  # at most, of pixels
MEASURED_IMAGES, ROUNDS = 32, 3  # about a second in all, after quantizing
MIN_SAVED = 0.1  # of the time in f32; less is within the noise of the measurement
MIN_COSINE = 0.98  # mean cosine to the features in f32 that keeps the accuracy (benchmarks/RESULTS.md)


@dataclass(frozen=True)
class Inference:
    """How features are computed.

    Attributes
    ----------
    network : the ONNX file that is run; with int8 the quantized one.
    precision : "f32", "bf16" or "int8".
    note : why this precision, with the figures.
    """

    network: Path
    precision: str
    note: str

    def __str__(self) -> str:
        return self.note


@dataclass(frozen=True)
class Choice:
    """What precision="auto" means for a network with an engine on a processor.

    Attributes
    ----------
    made_from : hash of what the measured int8 network is made from: network, calibration images and method.
    """

    network_sha256: str
    made_from: str
    engine: str
    processor: str
    precision: str
    note: str


KINDS = dict.fromkeys(Choice.__annotations__, str)


def prepare(
    dataset: Dataset, network: Path, *, engine: str = "openvino", precision: str = "f32"
) -> Inference:
    """Return the network and precision for the features of a data set.

    With "int8" the network is quantized, calibrated on up to 300 training images of at most 100 MB, and kept
    beside the other one; that takes about 30 seconds of processor time for efficientnet_lite1. With "auto"
    this comes first if NNCF is there; then the precisions are measured for about a second, and the choice is
    kept. That a precision keeps the accuracy means a mean cosine of at least 0.98 between its features of
    training images and those in f32; labels are not compared. Neither is made again for the same network and
    images.

    Parameters
    ----------
    network : as `heads.network` returns it.

    Raises
    ------
    ImgclfError : the engine or the processor does not support the precision, NNCF is missing, or no training
        image can be read.
    """
    note = f"precision = {precision}"
    if precision == "auto":
        choice = chosen(network, engine)
        if choice is None or choice.made_from != _hash(network, _calibration_images(dataset, network)):
            choice = _choose(dataset, network, engine)
        precision, note = choice.precision, choice.note
    precision = engines.resolved_precision(engine, precision)
    if precision != "int8":
        return Inference(network, precision, note)
    quantized, images = _quantize(dataset, network)
    return Inference(
        quantized, precision, f"{note}; {quantized.name}: calibrated on {images} training images"
    )


def quantized_file(network: Path) -> Path:
    """Return the path of the quantized network that belongs to a network."""
    return network.with_suffix(f".int8{network.suffix}")


def choice_file(network: Path) -> Path:
    """Return the path of the choice of precision="auto" that belongs to a network."""
    return network.with_name(f"{network.stem}_precision.json")


def processor(engine: str) -> str:
    """Return what the speed of each precision depends on, and whether int8 is there."""
    from imgclf.engines.openvino import core

    name, capabilities = (
        core().get_property("CPU", key) for key in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    )
    extra = "with" if quantization.is_installed() else "without"
    if engine == "onnxruntime":
        from imgclf.engines.onnxruntime import gpu

        name = " and ".join(filter(None, [gpu(), name]))
    return f"{name} ({', '.join(sorted(capabilities))}), {engine}, {extra} nncf"


def chosen(network: Path, engine: str) -> Choice | None:
    """Return the choice for a network with an engine on this processor; None if there is none yet.

    It may be of other calibration images: `prepare` compares them, and the record of 03 has the split.
    """
    try:
        choice = Choice(**files.read_json(choice_file(network), KINDS))
    except (OSError, ValueError, TypeError):
        return None
    is_of_now = choice.engine == engine and choice.processor == processor(engine)
    return choice if is_of_now and choice.network_sha256 == files.sha256(network) else None


def known(network: Path, engine: str, precision: str) -> tuple[Path, str] | None:
    """Return what `prepare` would, without any work; None if "auto" is not chosen yet."""
    if precision == "auto":
        choice = chosen(network, engine) if network.is_file() else None
        if choice is None:
            return None
        precision = choice.precision
    return quantized_file(network) if precision == "int8" else network, precision


def _training_images(dataset: Dataset) -> list[Image]:
    """Return the training images, each content once, in an order that depends on their contents alone."""
    from imgclf.data import split  # it imports pandas, which serving does without

    of_content = {image.sha256: image for image in split.read(dataset).train}
    return [of_content[sha256] for sha256 in sorted(of_content)]


def _calibration_images(dataset: Dataset, network: Path) -> list[Image]:
    bytes_per_image = 3 * engines.preprocessing(network).input_size ** 2
    return _training_images(dataset)[: max(1, min(CALIBRATION_IMAGES, CALIBRATION_BYTES // bytes_per_image))]


def _hash(network: Path, images: Sequence[Image]) -> str:
    """Return a hash of what a network is quantized from."""
    keys = [quantization.METHOD, files.sha256(network), *(image.pixels_key for image in images)]
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _pixels(dataset: Dataset, images: list[Image], network: Path) -> np.ndarray:
    preprocessing = engines.preprocessing(network)
    pixels = np.empty((len(images), preprocessing.input_size, preprocessing.input_size, 3), np.uint8)
    count = 0
    for image in load(image_sources(dataset, images), preprocessing):
        if not isinstance(image, Skipped):
            pixels[count] = image
            count += 1
    if not count:
        raise ImgclfError(f"none of the {len(images)} training images can be read; run 01_prepare_data again")
    return pixels[:count]


def _quantize(dataset: Dataset, network: Path) -> tuple[Path, int]:
    """Quantize a network if that was not done yet; return the file, and the number of calibration images."""
    images, path = _calibration_images(dataset, network), quantized_file(network)
    made_from = _hash(network, images)
    found, count = _made_from(path)
    if found != made_from:
        pixels = _pixels(dataset, images, network)
        count = len(pixels)
        print(
            f"quantizing {network.name} with {count} training images (half a minute for efficientnet_lite1)",
            flush=True,
        )
        content = quantization.quantize(network, pixels, made_from=f"{made_from} {count}")
        for folder in (path.parent / "features").glob(f"{path.stem}-*"):
            shutil.rmtree(folder)  # of the quantized network before
        with files.replace_file(path) as file:
            file.write(content)
    return path, count


def _made_from(quantized: Path) -> tuple[str, int]:
    """Return the hash and the number of images that a network was quantized from; ("", 0) if unknown."""
    try:
        found = {entry.key: entry.value for entry in onnx.load(quantized).metadata_props}
        made_from, count = found[quantization.KEY].strip('"').split()
        return made_from, int(count)
    except (OSError, DecodeError, KeyError, ValueError):
        return "", 0


def _choose(dataset: Dataset, network: Path, engine: str) -> Choice:
    """Measure the precisions that are there, and keep the choice."""
    candidates, failed = _candidates(dataset, network, engine)
    precision, note = "f32", ""
    if len(candidates) > 1:
        images = _training_images(dataset)
        others = images[CALIBRATION_IMAGES:][:MEASURED_IMAGES]  # the int8 network was fitted to the first
        pixels = _pixels(dataset, others or images[:MEASURED_IMAGES], network)
        precision, note, dropped = _fastest(candidates, pixels, engine)
        failed |= dropped
    note = f"precision = auto: {precision}{note}"
    if failed:
        note += f". Left out: {', '.join(f'{name} ({reason})' for name, reason in failed.items())}"
    if _has(engine, "int8") and not quantization.is_installed():
        note += f"; int8 was not measured, {quantization.INSTALL}"
    made_from = _hash(network, _calibration_images(dataset, network))
    choice = Choice(files.sha256(network), made_from, engine, processor(engine), precision, note)
    files.write_json(choice_file(network), asdict(choice))
    return choice


def _candidates(dataset: Dataset, network: Path, engine: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the network of each precision, and why there is none of a precision."""
    candidates, failed = {"f32": network}, {}
    if _has(engine, "bf16"):
        candidates["bf16"] = network
    if _has(engine, "int8") and quantization.is_installed():
        try:
            candidates["int8"] = _quantize(dataset, network)[0]
        except ImgclfError as error:  # a network that NNCF cannot quantize
            failed["int8"] = str(error)
    return candidates, failed


def _has(engine: str, precision: str) -> bool:
    """Whether an engine has a precision on this processor."""
    try:
        engines.resolved_precision(engine, precision)
    except ImgclfError:
        return False
    return True


def _fastest(
    candidates: Mapping[str, Path], pixels: np.ndarray, engine: str
) -> tuple[str, str, dict[str, str]]:
    """Return f32 or the fastest precision that keeps the features, the figures, and what is left out."""
    vectors, seconds, failed = measure(candidates, pixels, engine)
    worth = (1 - MIN_SAVED) * seconds["f32"]
    cosine = {name: mean_cosine(found, vectors["f32"]) for name, found in vectors.items()}
    keeping = [name for name in vectors if cosine[name] >= MIN_COSINE and seconds[name] <= worth]
    figures = ", ".join(
        f"{name} {len(pixels) / seconds[name]:.0f} images/s"
        + (f" (cosine to f32 {cosine[name]:.3f})" if name != "f32" else "")
        for name in vectors
    )
    for name in vectors:
        if cosine[name] < MIN_COSINE:
            failed[name] = f"mean cosine below {MIN_COSINE}"
        elif name != "f32" and seconds[name] > worth:
            failed[name] = f"saves less than {MIN_SAVED:.0%} of the time"
    best = min(keeping, key=lambda name: seconds[name], default="f32")
    which = "the fastest" if best != "f32" else "no other one"
    note = (
        f", {which} on this processor that takes at least {MIN_SAVED:.0%} less time than f32 and has a mean "
        f"cosine of at least {MIN_COSINE} to it. {figures}"
    )
    return best, note, failed


def measure(
    networks: Mapping[str, Path], pixels: np.ndarray, engine: str
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, str]]:
    """Return the features of some images by each network, the seconds that it took, and what failed.

    Parameters
    ----------
    networks : by their precision. pixels : (n, S, S, 3) uint8, RGB.

    Returns
    -------
    For each precision: features (n, d) float32; seconds, of the fastest of three interleaved rounds. Of those
    other than f32 that the engine cannot start, the error alone.
    """
    vectors: dict[str, np.ndarray] = {}
    started: dict[str, engines.Engine] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        for name, path in networks.items():
            try:
                ready = engines.start(path, engine=engine, precision=name)
            except (ImgclfError, RuntimeError) as error:  # RuntimeError: OpenVINO cannot compile it
                if name == "f32":
                    raise
                failed[name] = (str(error).strip() or type(error).__name__).splitlines()[-1]
            else:
                started[name] = stack.enter_context(closing(ready))
        seconds = dict.fromkeys(started, float("inf"))
        for round_number in range(1 + ROUNDS):  # the first is a warm-up
            for name, ready in started.items():
                start = time.perf_counter()
                batches = engines.batches(pixels, engines.BATCH_SIZE)
                vectors[name] = np.concatenate([outputs[0] for outputs in ready.run(batches)])
                if round_number:
                    seconds[name] = min(seconds[name], time.perf_counter() - start)
    return vectors, seconds, failed


def mean_cosine(vectors: np.ndarray, others: np.ndarray) -> float:
    """Return the mean cosine, -1 to 1, between the rows of two (n, d) arrays of features."""
    return float((svm.normalized(vectors) * svm.normalized(others)).sum(axis=1).mean())
