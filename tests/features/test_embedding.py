"""Maps of images: the drawn points and those that they represent."""

import tracemalloc

import numpy as np
import pytest

from imgclf.data.dataset import Image
from imgclf.features import Features, embedding, pca_projection


def clusters(count: int, *, seed: int = 0) -> tuple[Features, np.ndarray]:
    """Return features of images in three clusters, and the cluster of each."""
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 3, count)
    matrix = 5 * np.eye(3, 16)[cluster] + random.normal(0, 0.3, (count, 16))
    images = tuple(Image(f"a/{i}.jpg", "a", f"{i:064d}", "", 8, 8) for i in range(count))
    return Features(matrix.astype(np.float32), images), cluster


def test_few_images_are_all_drawn_along_the_principal_components():
    features, _ = clusters(40)
    found = embedding.principal_components(features, most=100)
    np.testing.assert_allclose(np.abs(found.points), np.abs(pca_projection(features)), atol=1e-4)
    assert found.drawn.tolist() == found.drawn_as.tolist() == list(range(40))


def test_of_many_images_some_are_drawn_and_represent_the_others_of_their_cluster():
    features, cluster = clusters(200)
    found = embedding.principal_components(features, most=50)
    assert len(found.points) == 50 and found.points.shape == (50, 2)
    assert (cluster[found.drawn[found.drawn_as]] == cluster).all()
    one = np.flatnonzero(cluster[found.drawn] == 1)
    assert found.rows(one).tolist() == np.flatnonzero(cluster == 1).tolist()


def test_a_drawn_image_represents_itself_even_if_another_has_the_same_features():
    features, _ = clusters(9)
    features.matrix[:] = features.matrix[0]
    found = embedding.principal_components(features, most=3)
    assert found.drawn_as[found.drawn].tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_tsne_takes_any_number_of_images(count):
    features, _ = clusters(count)
    found = embedding.tsne(features, most=100)
    assert found.points.shape == (count, 2) and np.isfinite(found.points).all()


def test_tsne_separates_clusters():
    from sklearn.metrics import silhouette_score

    features, cluster = clusters(90)
    assert silhouette_score(embedding.tsne(features, most=100).points, cluster) > 0.5


def test_of_many_images_no_copy_of_all_features_is_made(monkeypatch):
    monkeypatch.setattr("imgclf.features.PCA_ROWS", 500)
    monkeypatch.setattr("imgclf.features.BLOCK_ROWS", 500)
    draws = np.random.default_rng(0)
    matrix = draws.normal(size=(20_000, 128)).astype(np.float32)
    matrix[:, :2] += 20 * draws.normal(size=(20_000, 2))
    images = tuple(Image(f"a/{i}.jpg", "a", f"{i:064d}", "", 8, 8) for i in range(len(matrix)))
    features = Features(matrix, images)
    assert features.subset(list(images)).matrix is matrix
    embedding.principal_components(Features(matrix[:600], images[:600]), most=50)  # imports
    tracemalloc.start()
    found = embedding.principal_components(features, most=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The components of all images alone are 50 of the 128 columns.
    assert peak < 0.9 * matrix.nbytes and len(found.points) == 50 and len(found.drawn_as) == len(matrix)


def test_on_a_map_by_the_components_of_some_images_distances_are_those_of_all(monkeypatch):
    def distances() -> np.ndarray:  # the three clusters are alike, so the components may be turned
        points = embedding.principal_components(features, most=100).points
        return np.linalg.norm(points[:, None] - points, axis=2)

    features, _ = clusters(3000)
    every = distances()
    monkeypatch.setattr("imgclf.features.PCA_ROWS", 1000)
    np.testing.assert_allclose(distances(), every, atol=0.05)
