"""The training loop resumes from a checkpoint with the same result."""

import numpy as np
import torch
from torch import nn

from imgclf.finetuning import checkpoint
from imgclf.finetuning.loop import Training
from imgclf.finetuning.recipe import Recipe
from imgclf.finetuning.training_set import Pixels, TrainingSet

SIDE = 16


def training(folder) -> Training:
    """A convolution of 3 x 3 on 16 images of noise, before its first step."""
    torch.manual_seed(0)
    (folder / "pixels.bin").write_bytes(np.random.default_rng(0).bytes(16 * SIDE * SIDE * 3))
    examples = TrainingSet(
        Pixels(folder / "pixels.bin", SIDE), (), ("a", "b"), np.arange(16) % 2, np.zeros(16, bool)
    )
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Training(
        nn.Sequential(convolution, nn.Dropout(0.1), nn.Linear(8, 2)),
        examples,
        Recipe(epochs=4, batch_size=4, learning_rate=(0.05,)),
        frozen_part=lambda batches: (torch.from_numpy(batch).permute(0, 3, 1, 2) / 255 for batch in batches),
        train_size=SIDE,
        validation_maps=[],
        device="cpu",
    )


def test_the_weights_after_a_checkpoint_are_those_of_an_undisturbed_training(tmp_path):
    whole = training(tmp_path)
    for _ in range(2):
        whole.epochs or whole.start()
        whole.train_epoch(lambda done, total: None)
    arrays, about = whole.state()
    checkpoint.write(tmp_path / "checkpoint.npz", arrays, about={**about, "fingerprint": "x"})
    resumed = training(tmp_path)
    resumed.restore(*checkpoint.read(tmp_path / "checkpoint.npz", fingerprint="x"))
    assert repr(resumed.train_epoch(lambda *_: None)) == repr(whole.train_epoch(lambda *_: None))
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
