"""Images of other things are unfamiliar; a known share of images like the training images is, too."""

import numpy as np
import onnx
import pytest

from imgclf import ImgclfError, features, svm
from imgclf.classifier import familiarity
from imgclf.classifier.model import Classifier
from imgclf.engines import ENGINES
from support.classifiers import changed, pixels, trained, trained_as

LABELS = np.array(["a", "b", "c"])


def clouds(
    count: int, *, centres: int = 3, dimensions: int = 40, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Points around the first axes, a label each; and their positions' labels."""
    draws = np.random.default_rng(seed)
    y = draws.integers(0, centres, count)
    matrix = np.eye(dimensions)[y] * 5 + draws.normal(0, 0.7, (count, dimensions))
    return matrix.astype(np.float32), y


def fitted(count: int, *, rate: float = 0.05, clusters: np.ndarray | None = None, seed: int = 0):
    matrix, y = clouds(count, seed=seed)
    clusters = np.arange(count) if clusters is None else clusters
    search = svm.train(matrix, LABELS[y], clusters, c_values=[1.0])
    return search.head, *familiarity.fit(search, matrix, y, clusters, rate=rate)


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2])
def test_the_promised_share_of_new_images_is_unfamiliar(rate):
    """Over ten training sets, the mean share is within its standard error of the rate."""
    shares = []
    for seed in range(10):
        head, compared, _ = fitted(300, rate=rate, seed=seed)
        new, _ = clouds(2000, seed=1000 + seed)
        shares.append((compared.of(new, head.probabilities(new)) < compared.threshold).mean())
    assert np.mean(shares) == pytest.approx(rate, abs=3 * np.std(shares) / np.sqrt(10) + 0.005)


def test_images_of_another_thing_are_unfamiliar_though_their_probability_is_high():
    _, compared, _ = fitted(300)
    other = clouds(200, seed=7)[0] * 0
    other[:, 30] = 5
    other[:, 0] = 1.5
    other += np.random.default_rng(1).normal(0, 0.7, other.shape).astype(np.float32)
    found = compared.of(other, np.ones((200, 3), np.float32))
    assert (found < compared.threshold).mean() > 0.95


def test_an_image_that_the_classifier_is_unsure_of_is_less_familiar():
    _, compared, _ = fitted(300)
    one = clouds(1)[0]
    sure, unsure = (compared.of(one, np.array([p])) for p in ([1, 0, 0], [0.4, 0.3, 0.3]))
    assert unsure / sure == pytest.approx(0.4**familiarity.CERTAINTY_POWER)


def test_a_training_image_is_not_compared_with_its_near_duplicates():
    """Each image is there four times: without clusters every one would be as familiar as can be."""
    matrix, y = clouds(80)
    matrix, y = np.repeat(matrix, 4, axis=0), np.repeat(y, 4)
    search = svm.train(matrix, LABELS[y], np.arange(320) // 4, c_values=[1.0])
    _, apart = familiarity.fit(search, matrix, y, np.arange(320))
    _, together = familiarity.fit(search, matrix, y, np.arange(320) // 4)
    assert np.median(together) < np.median(apart) - 0.1


@pytest.mark.parametrize(("count", "rate", "is_told"), [(18, 0.05, False), (19, 0.05, True), (60, 0, False)])
def test_too_few_images_choose_no_threshold(count, rate, is_told):
    _, compared, found = fitted(count, rate=rate)
    assert (compared.threshold > 0) is is_told and np.isfinite(found).all()
    assert ("no image is called unfamiliar" in str(compared)) is not is_told


def test_only_held_out_images_choose_the_threshold():
    """The images that a network was fine-tuned on are more alike to it than new ones."""
    matrix, y = clouds(400)
    validation = np.arange(400) % 4 == 0
    search = svm.train(matrix, LABELS[y], np.arange(400), c_values=[1.0], validation=validation)
    compared, found = familiarity.fit(search, matrix, y, np.arange(400))
    assert np.array_equal(np.isfinite(found), validation) and compared.held_out == 100


def test_of_many_images_some_are_compared(monkeypatch):
    monkeypatch.setattr(familiarity, "MAX_IMAGES", 100)
    monkeypatch.setattr(familiarity, "MAX_HELD_OUT", 200)
    head, compared, found = fitted(1000)
    assert compared.images.shape == (100, 40) and np.isfinite(found).sum() == 200
    new, _ = clouds(2000, seed=5)
    assert (compared.of(new, head.probabilities(new)) < compared.threshold).mean() == pytest.approx(
        0.05, abs=0.04
    )


def test_a_rare_label_is_compared_however_many_images_others_have(monkeypatch):
    monkeypatch.setattr(familiarity, "MAX_IMAGES", 60)
    matrix, y = clouds(2000)
    rare = np.flatnonzero(y == 2)[5:]  # of five images, 60 random ones of 1,339 would have none as a rule
    matrix, y = np.delete(matrix, rare, axis=0), np.delete(y, rare)
    search = svm.train(matrix, LABELS[y], np.arange(len(y)), c_values=[1.0])
    compared, _ = familiarity.fit(search, matrix, y, np.arange(len(y)))
    new, of = clouds(1000, seed=3)
    familiar = compared.of(new[of == 2], np.ones((int((of == 2).sum()), 3))) >= compared.threshold
    assert familiar.mean() > 0.5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("l2_normalize", [True, False])
def test_the_file_computes_what_the_training_code_does(engine, l2_normalize, tiny_network, colour_folder):
    path = trained(tiny_network, colour_folder, l2_normalize=l2_normalize)
    compared = familiarity.read(path.with_name("familiarity.npz"))
    matrix = features.extract(tiny_network, pixels(), engine=engine)
    expected = compared.of(matrix, svm.read(path.with_name("svm.npz")).probabilities(matrix))
    loaded = Classifier.load(path, engine=engine, batch_size=3)
    np.testing.assert_allclose(loaded.outputs(pixels()).familiarity, expected, atol=1e-5)
    assert loaded.familiar_from == compared.threshold > 0


@pytest.mark.parametrize("kind", ["svm", "dnn", "svm_dnn_refined"])
def test_each_kind_of_classifier_knows_what_is_familiar(kind, colour_folder):
    assert Classifier.load(trained_as(kind, colour_folder)).outputs(pixels()).familiarity.shape == (7,)


def test_a_file_with_another_familiarity_than_its_self_test_is_refused(tiny_network, colour_folder):
    def turn(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "head_images")
        halved = onnx.numpy_helper.to_array(tensor) * np.float16(0.5)
        tensor.CopyFrom(onnx.numpy_helper.from_array(halved, tensor.name))

    path = changed(trained(tiny_network, colour_folder), turn)
    with pytest.raises(ImgclfError, match="computes other scores for the self-test images"):
        Classifier.load(path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "familiarity.npz").write_bytes(b"PK but nothing more")
    with pytest.raises(ImgclfError, match=r"familiarity.npz: damaged; run 04_train_svm again"):
        familiarity.read(tmp_path / "familiarity.npz")


def test_only_compared_and_held_out_images_are_scaled(monkeypatch):
    sizes, scale = [], svm.normalized
    monkeypatch.setattr(svm, "normalized", lambda matrix: (sizes.append(len(matrix)), scale(matrix))[1])
    monkeypatch.setattr(familiarity, "MAX_IMAGES", 60)
    monkeypatch.setattr(familiarity, "MAX_HELD_OUT", 50)
    matrix, y = clouds(400)
    head = svm.Head(tuple(LABELS.tolist()), np.zeros((3, 40)), np.zeros(3), True, 1.0, 1.0)
    search = svm.CSearch(head, np.random.default_rng(1).normal(size=(400, 3)))
    found, values = familiarity.fit(search, matrix, y, np.arange(400))
    assert max(sizes) == 60 and len(found.images) == 60 and np.isfinite(values).sum() == 50
