"""Refines a data set until somebody kills it; started by test_refine.py."""

import sys

from imgclf import backbones, recipe, refine

if __name__ == "__main__":
    dataset_name, folder, size, *numbers = sys.argv[1:]
    epochs, batch_size = map(int, numbers)
    refine.refine(dataset_name, folder, "dnn", backbones.BACKBONES["efficientnet_lite0"], recipe.Recipe(epochs=epochs, batch_size=batch_size),
                  input_size=int(size), show=lambda done: print(len(done), flush=True))
