"""Features by the pretrained network: of all images of a data set, or of training images."""

from collections.abc import Callable, Sequence

from imgclf import files
from imgclf.data.dataset import NO_LABEL, Dataset, Image
from imgclf.features import Cache, Features, compute, inference
from imgclf.images.preprocessing import Preprocessing
from imgclf.images.workers import HERE, Workers
from imgclf.networks import backbones
from imgclf.parameters import SVM


def features_of(
    dataset: Dataset,
    *,
    backbone: str = "efficientnet_lite1",
    input_size: int = 0,
    engine: str = "openvino",
    precision: str = "f32",
    workers: Workers = HERE,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """Return the features of all readable images of a data set, with a label or without.

    They are those of the pretrained network that 02_refine_dnn writes and 03_run_dnn uses, in the same cache:
    nothing is computed twice. The network is written if it is not there yet.

    Parameters
    ----------
    input_size : of the network, pixels; 0 : see `backbones.side`.
    workers, progress : see `features.compute`.

    Raises
    ------
    ImgclfError : the network is not available; no image can be read.
    """
    network = files.proc_dir(dataset.name) / files.FIXED_NETWORK
    if not network.exists():
        chosen = backbones.choose(backbone)
        backbones.write(chosen, Preprocessing(backbones.side(chosen, input_size)), network)
    cache = Cache.for_network(dataset.name, network, engine=engine, precision=precision)
    images = described_images(dataset)
    compute(
        dataset,
        network,
        cache,
        subset=images,
        engine=engine,
        precision=precision,
        workers=workers,
        progress=progress,
    )
    return cache.features(images)


def training_features(
    dataset: Dataset,
    images: Sequence[Image],
    classifier: str,
    *,
    engine: str = "openvino",
    precision: str = "f32",
) -> Features:
    """Return the features of training images by the network of 02_refine_dnn; those not cached are computed.

    Parameters
    ----------
    precision : of the classifier. With "int8" and a fine-tuned network the features are in f32, since that
        network alone is quantized.

    Raises
    ------
    ImgclfError : no image can be read.
    """
    network = files.proc_dir(dataset.name) / files.FIXED_NETWORK
    if precision == "int8" and classifier == SVM:
        network = inference.quantized_file(network)
    elif precision == "int8":
        precision = "f32"
    cache = Cache.for_network(dataset.name, network, engine=engine, precision=precision)
    compute(dataset, network, cache, subset=images, engine=engine, precision=precision)
    return cache.features(images)


def described_images(dataset: Dataset) -> list[Image]:
    """Return the images that features are computed of: the readable ones, also without a label."""
    return [image for image in dataset.files if image.width and image.excluded in ("", NO_LABEL)]
