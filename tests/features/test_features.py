"""Features are computed once for each content, network and precision, and cached whatever the label."""

from dataclasses import replace

import numpy as np
import pytest

from imgclf import ImgclfError, engines, features, files
from imgclf.data import scan
from imgclf.data.dataset import Dataset, Image
from imgclf.features import Cache, Features
from imgclf.images import decoding
from imgclf.images.loading import Skipped, Source
from imgclf.images.preprocessing import KEY, Preprocessing
from imgclf.networks import onnx_graph
from support.pictures import COLOURS, picture


@pytest.fixture
def colours(colour_folder) -> Dataset:
    return scan.scan_folder("colours", colour_folder)


@pytest.fixture
def cache(tiny_network) -> Cache:
    return Cache.for_network("colours", tiny_network)


def features_of(*vectors: list[float]) -> Features:
    """Features of images 0.jpg, 1.jpg ... with these vectors."""
    found = tuple(Image(f"{i}.jpg", "a", str(i), "", 1, 1) for i in range(len(vectors)))
    return Features(np.array(vectors, np.float32), found)


def test_features_are_the_output_of_the_network_for_each_image(colours, tiny_network, cache):
    assert features.compute(colours, tiny_network, cache) == []
    pixels = np.stack([Preprocessing(32).apply(colours.file(image).read_bytes()) for image in colours.images])
    ((expected,),) = engines.start(tiny_network, engine="onnxruntime").run([pixels])
    found = cache.features(colours.images)
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-5, atol=1e-5)
    assert found.images == colours.images


def test_features_come_in_the_order_asked_for(colours, tiny_network, cache):
    features.compute(colours, tiny_network, cache)
    backwards = cache.features(colours.images[::-1])
    assert (backwards.matrix == cache.features(colours.images).matrix[::-1]).all()


def test_an_unreadable_image_is_skipped_and_named(colours, tiny_network, cache):
    (colours.folder / "green" / "03.jpg").write_bytes(b"this is no image")
    (skipped,) = features.compute(colours, tiny_network, cache)
    assert skipped.path == str(colours.folder / "green" / "03.jpg")
    assert skipped.reason == "03.jpg: has changed since 01_prepare_data; run 01_prepare_data again"
    good = [image for image in colours.images if image.path != "green/03.jpg"]
    kept = cache.features(colours.images)
    assert kept.images == tuple(good)
    ((expected,),) = engines.start(tiny_network, engine="onnxruntime").run(
        [np.stack([Preprocessing(32).apply(colours.file(i).read_bytes()) for i in good])]
    )
    np.testing.assert_allclose(kept.matrix, expected, rtol=1e-5, atol=1e-5)  # each row is that of its image


def test_a_deleted_image_is_skipped_with_the_reason(colours, tiny_network, cache):
    (colours.folder / "red" / "00.jpg").unlink()
    (skipped,) = features.compute(colours, tiny_network, cache)
    assert "No such file" in skipped.reason


def test_nothing_is_computed_where_nothing_is_missing(colours, tiny_network, cache):
    features.compute(colours, tiny_network, cache)
    assert features.compute(colours, tiny_network, cache, engine="no such engine") == []


def test_features_of_pixels_that_were_scaled_otherwise_are_not_used(colours, tiny_network, cache):
    """Version 0.1.0 took 12 bits in a file of 16 as nearly black, and stored the content's hash alone."""
    image = replace(colours.images[0], depth="12 bits")
    cache.add([image.sha256], np.zeros((1, 8), np.float32))
    assert list(features.missing([image], cache)) == [image]
    assert list(features.missing([colours.images[0]], cache)) == []


def test_one_new_image_costs_one_image(colours, tiny_network, cache):
    features.compute(colours, tiny_network, cache)
    before = {shard: shard.stat().st_mtime_ns for shard in cache.folder.iterdir()}
    (colours.folder / "red" / "new.jpg").write_bytes(decoding.jpeg(picture(COLOURS["red"], seed=999)))
    counted: list[int] = []
    features.compute(
        scan.scan_folder("colours", colours.folder), tiny_network, cache, progress=counted.append
    )
    assert counted == [1]
    assert before.items() <= {shard: shard.stat().st_mtime_ns for shard in cache.folder.iterdir()}.items()


def test_a_new_label_keeps_the_features(colours, tiny_network, cache):
    features.compute(colours, tiny_network, cache)
    (colours.folder / "red" / "00.jpg").rename(colours.folder / "blue" / "was red.jpg")
    moved = scan.scan_folder("colours", colours.folder)
    assert list(features.missing(moved.images, cache)) == []
    assert cache.features(moved.images).labels.tolist().count("blue") == 13


def test_one_content_is_computed_once_and_serves_both_files(colours, tiny_network, cache):
    (colours.folder / "blue" / "twin.jpg").write_bytes((colours.folder / "red" / "00.jpg").read_bytes())
    counted: list[int] = []
    found = scan.scan_folder("colours", colours.folder)
    features.compute(found, tiny_network, cache, progress=counted.append)
    assert counted[-1] == 36
    twins = cache.features([image for image in found.images if image.path in ("blue/twin.jpg", "red/00.jpg")])
    assert (twins.matrix[0] == twins.matrix[1]).all()


def test_an_interrupted_run_keeps_what_it_computed(colours, tiny_network, cache):
    def stop(done: int) -> None:
        if done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features.compute(colours, tiny_network, cache, shard_images=10, progress=stop)
    assert len(cache.known()) == 13
    features.compute(colours, tiny_network, cache)
    assert len(cache.known()) == 36


def test_progress_is_reported_after_each_image(colours, tiny_network, cache):
    counted: list[int] = []
    features.compute(colours, tiny_network, cache, progress=counted.append)
    assert counted == list(range(1, 37))


def test_features_are_written_in_shards_of_the_given_size(colours, tiny_network, cache):
    features.compute(colours, tiny_network, cache, shard_images=15)
    assert len(list(cache.folder.iterdir())) == 3


def test_a_source_is_read_if_its_sha256_matches_or_is_not_given(colours):
    image = colours.images[0]
    expected = Preprocessing(32).apply(colours.file(image).read_bytes())
    for source in (Source(colours.file(image), image.sha256), Source(colours.file(image))):
        assert (source.pixels(Preprocessing(32)) == expected).all()


def test_image_sources_are_the_files_with_the_sha256_of_the_scan(colours):
    assert features.image_sources(colours, colours.images[:2]) == [
        Source(colours.folder / image.path, image.sha256) for image in colours.images[:2]
    ]


def test_a_file_with_other_content_than_at_the_scan_has_no_features(colours, tiny_network, cache):
    (colours.folder / "green" / "03.jpg").write_bytes(decoding.jpeg(picture(COLOURS["red"], seed=999)))
    (skipped,) = features.compute(colours, tiny_network, cache)
    assert skipped == Skipped(
        str(colours.folder / "green/03.jpg"),
        "03.jpg: has changed since 01_prepare_data; run 01_prepare_data again",
    )
    assert len(cache.known()) == 35


@pytest.mark.parametrize(
    ("cached", "sentence"),
    [
        (40, "40 images x 1 features"),
        (
            38,
            "38 images x 1 features; 2 of 40 images have none, run 03_run_dnn (it names those that cannot be read)",
        ),
    ],
)
def test_coverage_says_how_many_images_have_features(cached, sentence):
    found = features_of(*[[1.0]] * 40)
    assert features.coverage(found.subset(found.images[:cached]), found.images) == sentence


def test_coverage_refuses_more_than_five_percent_missing():
    found = features_of(*[[1.0]] * 40)
    with pytest.raises(
        ImgclfError, match="^37 images x 1 features; 3 of 40 images have none, run 03_run_dnn"
    ):
        features.coverage(found.subset(found.images[:37]), found.images)


def test_each_network_and_precision_has_its_own_cache(tiny_network, tmp_path, monkeypatch):
    monkeypatch.setattr("imgclf.engines.openvino.has_bf16", lambda: True)
    other = tmp_path / "dnn_other.onnx"
    other.write_bytes(tiny_network.read_bytes() + b"\x08\x0a")  # the field that names the IR version, again
    folders = {
        Cache.for_network("colours", network, precision=precision).folder
        for network in (tiny_network, other)
        for precision in ("f32", "bf16")
    }
    assert len(folders) == 4


def test_each_preprocessing_has_its_own_cache_since_the_network_holds_it(tiny_network, tmp_path):
    folders = set()
    for grey in (114, 0):
        network = tmp_path / "dnn_other.onnx"
        preprocessing = Preprocessing(32, (grey, grey, grey))
        network.write_bytes(
            onnx_graph.with_metadata(tiny_network.read_bytes(), {KEY: preprocessing.as_json()})
        )
        folders.add(Cache.for_network("colours", network).folder)
    assert len(folders) == 2


def test_a_damaged_shard_is_named_with_the_remedy(colours, tiny_network, cache):
    features.compute(colours, tiny_network, cache)
    (shard,) = cache.folder.iterdir()
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(ImgclfError, match=rf"{shard.name}: damaged; delete it and run 03_run_dnn again"):
        cache.features(colours.images)


@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((2, 8), np.float32),
        np.zeros((1, 7), np.float32),
        np.zeros(1, np.float32),
        np.zeros((1, 8), int),
    ],
)
def test_a_shard_that_does_not_fit_the_others_is_named_with_the_remedy(colours, tiny_network, cache, vectors):
    features.compute(colours, tiny_network, cache)
    key = colours.images[0].pixels_key  # shards without wanted images are not read
    np.savez(cache.folder / "other.npz", sha256=np.array([key]), features=vectors)
    with pytest.raises(ImgclfError, match=r"other\.npz: damaged; delete it and run 03_run_dnn again"):
        cache.features(colours.images)


@pytest.mark.parametrize("change", ["features", "keys", "folder"])
def test_a_shard_that_is_not_as_it_was_written_is_refused(colours, tiny_network, cache, change):
    features.compute(colours, tiny_network, cache)
    (shard,) = cache.folder.iterdir()
    assert features.is_whole(shard)
    arrays = files.read_npz(shard)
    if change == "folder":  # that of another network or precision
        cache = Cache(shard.parent.rename(shard.parent.with_name("another-network-f32")))
        shard = cache.folder / shard.name
    else:
        name = {"features": "features", "keys": "sha256"}[change]
        files.write_npz(shard, arrays | {name: arrays[name][::-1]})
    assert not features.is_whole(shard)
    with pytest.raises(ImgclfError, match=rf"{shard.name}: damaged; delete it and run 03_run_dnn again"):
        cache.features(colours.images)


def test_a_shard_of_version_0_1_0_has_no_checksum_and_is_used(colours, tiny_network, cache):
    features.compute(colours, tiny_network, cache)
    (shard,) = cache.folder.iterdir()
    before = cache.features(colours.images).matrix
    files.write_npz(shard, {name: files.read_npz(shard)[name] for name in ("sha256", "features")})
    assert features.is_whole(shard) and (cache.features(colours.images).matrix == before).all()


def test_a_missing_cache_says_what_to_run(colours, cache):
    with pytest.raises(ImgclfError, match="no features of these images yet; run 03_run_dnn first"):
        cache.features(colours.images)


def test_estimate_time_computes_a_few_and_says_how_long_the_rest_takes(colours, tiny_network, cache):
    sentence = features.estimate_time(colours, tiny_network, cache, few=6)
    assert len(cache.known()) == 6
    assert "images a second; the remaining 30 will take about" in sentence


def test_estimate_time_leaves_out_the_first_quarter(colours, tiny_network, cache, monkeypatch):
    moments = iter(
        [99.0, 100.0, 100.2, 100.5, 101.0, 102.0, 103.0, 104.0]
    )  # the engine starts before the first
    monkeypatch.setattr(features.time, "perf_counter", lambda: next(moments))
    assert (
        features.estimate_time(colours, tiny_network, cache, few=8)
        == "2 images a second; the remaining 28 will take about 19 seconds"
    )  # 6 in 4 s


def test_estimate_time_of_a_handful_says_that_they_are_done(colours, tiny_network, cache):
    few = Dataset(colours.name, colours.folder, colours.images[:5])
    assert features.estimate_time(few, tiny_network, cache) == "there are only 5 new images; they are done"
    assert len(cache.known()) == 5


def test_estimate_time_says_when_all_are_cached(colours, tiny_network, cache):
    features.compute(colours, tiny_network, cache)
    assert (
        features.estimate_time(colours, tiny_network, cache)
        == "the features of all 36 images are cached already"
    )


def test_a_subset_keeps_its_order_and_leaves_out_images_without_features():
    found = features_of([1, 1], [2, 2], [3, 3])
    unknown = Image("9.jpg", "a", "9", "", 1, 1)
    chosen = found.subset([found.images[2], unknown, found.images[0]])
    assert chosen.matrix.tolist() == [[3, 3], [1, 1]]
    assert str(chosen) == "2 images x 2 features"


def test_nearest_neighbours_have_the_largest_cosine_whatever_their_length():
    found = features_of([1, 0], [0, 5], [7, 0], [3, 4], [-2, 0])
    near = features.nearest_neighbours(found, found.images[0], most=3)
    assert [(image.path, round(cosine, 6)) for image, cosine in near] == [
        ("2.jpg", 1.0),
        ("3.jpg", 0.6),
        ("1.jpg", 0.0),
    ]


def test_nearest_neighbours_of_equal_cosine_keep_the_order_and_leave_out_the_image_itself():
    found = features_of([1, 0], [1, 0], [1, 0])
    assert [image.path for image, _ in features.nearest_neighbours(found, found.images[1], most=9)] == [
        "0.jpg",
        "2.jpg",
    ]


def test_an_image_whose_features_are_all_zero_has_a_cosine_of_zero():
    found = features_of([1, 0], [0, 0], [0, 1])
    assert [cosine for _, cosine in features.nearest_neighbours(found, found.images[0], most=2)] == [0.0, 0.0]


def test_pca_projection_keeps_the_components_of_largest_variance():
    found = features_of([1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0])
    points = features.pca_projection(found)
    np.testing.assert_allclose(points, [[1, 0], [0, 1], [-1, 0], [0, -1], [1, 0], [-1, 0]], atol=1e-6)


def test_pca_projection_does_not_depend_on_the_lengths_of_features():
    near, far = features_of([1, 0], [0, 1], [1, 1]), features_of([9, 0], [0, 2], [5, 5])
    np.testing.assert_allclose(features.pca_projection(near), features.pca_projection(far), atol=1e-6)


def test_neighbours_and_projection_are_computed_in_blocks_with_the_same_result(monkeypatch):
    found = features_of(*np.random.default_rng(0).normal(size=(50, 4)).tolist())
    near, points = features.nearest_neighbours(found, found.images[7], most=5), features.pca_projection(found)
    monkeypatch.setattr(features, "BLOCK_ROWS", 3)
    in_blocks = features.nearest_neighbours(found, found.images[7], most=5)
    assert [image for image, _ in in_blocks] == [image for image, _ in near]
    np.testing.assert_allclose(features.pca_projection(found), points, atol=1e-6)


def test_features_of_a_few_images_are_read_from_their_shards_alone(tmp_path, monkeypatch):
    cache, vectors = Cache(tmp_path), np.arange(80, dtype=np.float32).reshape(40, 2)
    images = [Image(f"a/{i}.jpg", "a", f"{i:064x}", "", 1, 1) for i in range(40)]
    for start in range(0, 40, 2):
        cache.add([image.sha256 for image in images[start : start + 2]], vectors[start : start + 2])
    whole, read = [], files.read_npz
    monkeypatch.setattr(
        files,
        "read_npz",
        lambda path, *names: read(path, *names) if names else whole.append(path) or read(path),
    )
    found = cache.features([images[31], images[4], images[30]])
    assert found.matrix.tolist() == vectors[[31, 4, 30]].tolist()
    assert len(whole) == 2


def test_components_of_evenly_spaced_images_project_all_of_them(monkeypatch):
    random = np.random.default_rng(0)
    found = features_of(*(random.normal(size=(400, 6)) * [9, 5, 1, 1, 1, 1]).tolist())
    points = features.pca_projection(found)
    monkeypatch.setattr(features, "PCA_ROWS", 200)
    correlation = np.corrcoef(features.pca_projection(found).T, points.T)
    assert len(points) == 400 and (np.abs(np.diag(correlation[:2, 2:])) > 0.95).all()
