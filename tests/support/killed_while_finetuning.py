"""Fine-tune on a data set until the process is killed; started by test_finetune.py."""

import sys

from imgclf.finetuning import finetune, recipe
from imgclf.networks import backbones

if __name__ == "__main__":
    dataset_name, folder, *numbers = sys.argv[1:]
    epochs, batch_size = map(int, numbers)
    finetune.finetune(
        dataset_name,
        folder,
        "dnn",
        backbones.BACKBONES["efficientnet_lite0"],
        recipe.Recipe(epochs=epochs, batch_size=batch_size),
        show=lambda done: print(len(done), flush=True),
    )
