"""Class activation maps: which places of an image speak for a label, by the maps inside a classifier.onnx."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import numpy_helper

from imgclf import ImgclfError, engines, files
from imgclf.classifier import export, model
from imgclf.classifier.results import Refused
from imgclf.data.labels import in_words
from imgclf.images import decoding
from imgclf.images.loading import Source
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import pooled_maps
from imgclf.networks.pooled_maps import PooledMaps

OPACITY = 0.55  # of the colours over the picture
PICTURE_SIDE = 1024  # pixels
TILE_SIDE = 200  # pixels
TEST_IMAGES = 2
HEAD, OUTPUTS = ("head_weights", "head_offsets"), ("scores", "probabilities")  # names of `export.write`
REMEDY = "set backbone to a convolutional network, or put #mean behind the name of a ViT of the Hub"


class NoMaps(ImgclfError):
    """A classifier that has no class activation maps; `reason` says why, and what to do, without its path."""

    def __init__(self, path: Path, error: ImgclfError) -> None:
        self.reason = f"the classifier has no class activation maps, as {error}; {REMEDY}"
        super().__init__(f"{path}: {self.reason}")


@dataclass(frozen=True, eq=False)
class ActivationMap:
    """How much each position of an image speaks for one label.

    Attributes
    ----------
    values : (h, w) float32, of the cells of the letterboxed image; positive: for the label, else against it.
        Their mean is the score. The offset of the label is spread evenly over the positions: of the demo set,
        73 % of the positive values were then on the garment, 69 % without it or relative to other labels.
    score, probability : of the label.
    predicted : the label with the largest score.
    """

    label: str
    values: np.ndarray
    score: float
    probability: float
    predicted: str
    preprocessing: Preprocessing

    def on(self, height: int, width: int) -> np.ndarray:
        """Return the map of an image of this size, pixels, without the padding; (height, width)."""
        square = _enlarged(self.values, self.preprocessing.input_size, self.preprocessing.input_size)
        return _enlarged(square[self.preprocessing.inside(height, width)], height, width)

    def overlay(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture of the image in grey, with its map in colours over it.

        From violet (nothing, or against the label) over green to yellow (the strongest place of this image).
        The colours, viridis, are perceptually uniform and differ for colour-blind readers.

        Parameters
        ----------
        picture : (H, W, 3) uint8, RGB; the image at any size, not letterboxed.
        """
        height, width = picture.shape[:2]
        positive = np.maximum(self.on(height, width), 0)
        levels = (255 * positive / max(positive.max(), 1e-12)).astype(np.uint8)
        colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
        grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return np.asarray(cv2.addWeighted(colours, OPACITY, grey, 1 - OPACITY, 0))


@dataclass(frozen=True, eq=False)
class Explained:
    """An image file's map, and the image, (H, W, 3) uint8, RGB."""

    map: ActivationMap
    picture: np.ndarray

    def write(self, path: Path) -> None:
        """Write the picture with the overlay to its right, as a PNG file."""
        both = np.hstack([self.picture, self.map.overlay(self.picture)])
        with files.replace_file(path) as file:
            file.write(_png(both))

    def cells(self, path: Path) -> list[str]:
        """Return label, score, probability, and the path of the image, as `imgclf predict` prints them."""
        found = self.map
        return [in_words(found.label), f"{found.score:.2f}", f"{found.probability:.0%}", str(path)]


@dataclass(frozen=True, eq=False)
class Tiles:
    """Pictures for a grid, (H, W, 3) uint8, RGB, a caption each, and a sentence on what they show."""

    pictures: list[np.ndarray]
    captions: list[str]
    note: str


def tiles(
    classifier: Path, paths: Sequence[Path], captions: Sequence[str], *, side: int = TILE_SIDE
) -> Tiles:
    """Return each image, and beside it the map of the label that the classifier predicts.

    If the classifier has no maps, the images alone; the note says so, and why.

    Parameters
    ----------
    captions : of the images. side : longer side of the pictures, pixels, at most.
    """
    try:
        explainer = Explainer.load(classifier)
    except NoMaps as error:
        pictures = [decoding.shrink(decoding.read(path, side=side), side) for path in paths]
        return Tiles(pictures, list(captions), f"no maps are shown: {error.reason}")
    found = Tiles([], [], "right of each image: its activation map for the predicted label")
    with explainer:
        for (_, one), caption in zip(explainer.explain_files(paths, side=side), captions, strict=True):
            if isinstance(one, Explained):
                found.pictures.extend([one.picture, one.map.overlay(one.picture)])
                found.captions.extend([caption, f"map of\n{in_words(one.map.label)}"])
    return found


def _png(pixels: np.ndarray) -> bytes:
    """Return the content of a PNG file of (H, W, 3) uint8, RGB."""
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def _enlarged(values: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR))


@dataclass(frozen=True, eq=False)
class _Head:
    """The last layer of a classifier: weights (d, k), offsets (k,); whether vectors get length 1 first."""

    weights: np.ndarray
    offsets: np.ndarray
    l2_normalize: bool

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the scores of the features of each position, (n, h, w, k).

        The length of the feature vector is that of the whole image, so that their mean is the image's score.
        """
        if self.l2_normalize:
            vectors = features.mean(axis=(1, 2), keepdims=True)
            length = np.linalg.norm(vectors, axis=3, keepdims=True)
            features = features / np.maximum(length, export.MIN_LENGTH)
        scores: np.ndarray = features @ self.weights + self.offsets
        return scores


class Explainer:
    """A classifier.onnx that computes class activation maps; a context manager that frees memory at its end.

    The features of an image are the mean of the network's last maps over the positions, and the scores are
    linear in the features. So each score is the mean of a map: the map is exact, and no approximation by
    gradients.

    Source: B. Zhou and others, "Learning Deep Features for Discriminative Localization", CVPR 2016, eq. 2.
    """

    def __init__(
        self,
        path: Path,
        labels: list[str],
        network: engines.Engine,
        maps: PooledMaps,
        head: _Head,
        *,
        batch_size: int,
    ) -> None:
        self.path, self.labels = path, labels
        self.preprocessing = engines.preprocessing(path)
        self._network, self._maps, self._head, self._batch_size = network, maps, head, batch_size

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        engine: str = "openvino",
        precision: str = "f32",
        batch_size: int = engines.BATCH_SIZE,
    ) -> "Explainer":
        """Load a classifier, and compare the means of its maps with its scores for two images of noise.

        Parameters
        ----------
        engine, precision, batch_size : see `engines.start`. A classifier in int8 stays so.

        Raises
        ------
        ImgclfError : the file is missing or no classifier of imgclf.
        NoMaps : its features are no average over positions, but a classification token, say.
        """
        labels = model.read_metadata(path)["labels"]  # refuses other files
        content = onnx.load(path)
        with _named(path):
            maps, head = pooled_maps.find(content.graph), _head(content.graph)
        kept = [output for output in content.graph.output if output.name in OUTPUTS]
        del content.graph.output[:]
        content.graph.output.extend(kept)
        pooled_maps.add_output(content.graph, maps)
        is_quantized = any(node.op_type == "DequantizeLinear" for node in content.graph.node)
        network = engines.start(
            content.SerializeToString(), engine=engine, precision=precision, batch_size=batch_size
        )
        explainer = cls(path, labels, network, maps, head, batch_size=batch_size)
        with _named(path):
            explainer._check("int8" if is_quantized else network.precision)
        return explainer

    def _check(self, precision: str) -> None:
        """Compare the means of the maps with the scores, as exactly as the precision allows.

        Raises
        ------
        ImgclfError : they differ.
        """
        side = self.preprocessing.input_size
        noise = np.random.default_rng(0).integers(0, 256, (TEST_IMAGES, side, side, 3), np.uint8)
        scores, _, evidence = self._run(noise)
        found = model.largest_relative_difference(evidence.mean(axis=(1, 2)), scores)
        if not found <= model.TOLERANCE[precision]:  # also refuses NaN
            raise ImgclfError(f"their mean is not the score (relative difference {found:.2g})")

    def _run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return scores and probabilities (n, k), and the scores of each position (n, h, w, k)."""
        outputs = list(self._network.run(engines.batches(pixels, self._batch_size)))
        scores, probabilities, maps = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return scores, probabilities, self._head.scores(self._maps.features(maps))

    def maps(self, pixels: np.ndarray, labels: Sequence[str | None] | None = None) -> list[ActivationMap]:
        """Return the class activation map of each preprocessed image (n, S, S, 3) uint8, RGB.

        Parameters
        ----------
        labels : of which label for each image; None: of the predicted one.

        Raises
        ------
        ImgclfError : the classifier does not know a label.
        """
        scores, probabilities, evidence = self._run(pixels)
        found = []
        for i, label in enumerate(labels or [None] * len(pixels)):
            best = int(scores[i].argmax())
            k = best if label is None else self._position(label)
            found.append(
                ActivationMap(
                    self.labels[k],
                    evidence[i, :, :, k],
                    float(scores[i, k]),
                    float(probabilities[i, k]),
                    self.labels[best],
                    self.preprocessing,
                )
            )
        return found

    def explain_files(
        self, paths: Iterable[Path], *, label: str | None = None, side: int = PICTURE_SIDE
    ) -> Iterator[tuple[Path, Explained | Refused]]:
        """Yield each image file, in order, with its map and picture, or why it cannot be read.

        Parameters
        ----------
        label : None: of each image the predicted one. side : longer side of the pictures, pixels, at most.

        Raises
        ------
        ImgclfError : the classifier does not know the label (at once).
        """
        if label is not None:
            self._position(label)
        return ((path, self._explained(path, label, side)) for path in paths)

    def _explained(self, path: Path, label: str | None, side: int) -> Explained | Refused:
        try:
            pixels = Source(path).pixels(self.preprocessing)
            picture = decoding.shrink(decoding.read(path, side=side), side)
        except ImgclfError as error:
            return Refused(str(error).removeprefix(f"{path.name}: ").removeprefix(f"{path}: "))
        return Explained(self.maps(pixels[None], [label])[0], picture)

    def _position(self, label: str) -> int:
        if label not in self.labels:
            raise ImgclfError(
                f"label {label!r}: {self.path} has none of this name; give one of {', '.join(self.labels)}"
            )
        return self.labels.index(label)

    def close(self) -> None:
        """Free memory and threads; it cannot compute maps afterwards."""
        self._network.close()

    def __enter__(self) -> "Explainer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say of an error which classifier has no maps, and which has."""
    try:
        yield
    except ImgclfError as error:
        raise NoMaps(path, error) from error


def _head(graph: onnx.GraphProto) -> _Head:
    """Return the last layer that `export.write` wrote.

    Raises
    ------
    ImgclfError : there is none.
    """
    stored = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in HEAD
    }
    inputs = {node.output[0]: node.input[0] for node in graph.node if node.input}
    if len(stored) < len(HEAD) or not {output.name for output in graph.output}.issuperset(OUTPUTS):
        raise ImgclfError("its last layer is not one that imgclf wrote")
    weights, offsets = (stored[name] for name in HEAD)
    return _Head(weights, offsets, l2_normalize=inputs.get("scores") != "features")
