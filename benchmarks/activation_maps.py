"""How much of the activation maps lies on the garment, for the test images of a classifier of the demo set.

`python benchmarks/activation_maps.py [CLASSIFIER]`: a classifier.onnx below proc/fashion_texture of the data folder; by default the
newest. Chance is the garment's share of the image: that of a map that is the same everywhere.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from imgclf.classifier.activation_maps import Explained, Explainer
from imgclf.classifier.predict import newest_classifier
from imgclf.collect import demo
from imgclf.data import dataset, split
from support.localization import Located, located, sources

DEMO = "fashion_texture"
SMALL = 0.3  # share of the image


def main(path: Path) -> None:
    """Print the shares."""
    found, source_of = dataset.read(DEMO), sources()
    images = split.read(found).subset("test")
    results: list[Located] = []
    with Explainer.load(path) as explainer:
        for file, explained in explainer.explain_files(found.file(image) for image in images):
            assert isinstance(explained, Explained)
            results.append(located(explained.map, demo.garment_mask(source_of[file.name])))
    small = [each for each in results if each.by_chance < SMALL]
    for name, some in (("all", results), (f"garment below {SMALL:.0%} of the image", small)):
        on, chance = np.array([(each.on_garment, each.by_chance) for each in some]).T
        print(
            f"{name}: {len(some)} test images, {on.mean():.3f} of the map on the garment, {chance.mean():.3f} by chance, "
            f"above chance on {np.mean(on > chance):.2f} of the images; strongest place on it: "
            f"{np.mean([each.hits for each in some]):.2f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else newest_classifier())
