"""Writes keras_mobilenetv2.onnx and teachable_machine.onnx with the features that Keras computes."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx

OUT = Path(__file__).parent
SIDE = 32
random = np.random.default_rng(0)
keras.utils.set_random_seed(0)


def write(inputs, features, scores, name, opset):
    model = keras.Model(inputs, scores)
    for weight in model.weights:
        if weight.path.endswith(("moving_variance", "gamma")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("beta", "bias", "moving_mean")):
            weight.assign(random.normal(0, 0.1, weight.shape))
    signature = (tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name=inputs.name),)
    function = tf.function(lambda pixels: model(pixels, training=False))
    tf2onnx.convert.from_function(
        function, input_signature=signature, opset=opset, output_path=str(OUT / f"{name}.onnx")
    )
    images = np.random.default_rng(7).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    body = keras.Model(inputs, features)
    found = body(tf.constant(images.astype(np.float32) / 127.5 - 1), training=False).numpy()
    np.savez_compressed(OUT / f"{name}.npz", images=images, features=found)


def mobilenet(layer):
    """The first blocks of MobileNetV2, so that the file stays small."""
    full = keras.applications.MobileNetV2((SIDE, SIDE, 3), alpha=0.35, weights=None, include_top=False)
    return keras.Model(full.input, full.get_layer(layer).output)


body = mobilenet("block_4_add")
average = keras.layers.GlobalAveragePooling2D()(body.output)
scores = keras.layers.Dense(5, activation="softmax", name="predictions")(average)
write(body.input, average, scores, "keras_mobilenetv2", 15)

# As Teachable Machine saves it: MobileNet and average, then two dense layers, the last one without bias.
body = keras.Sequential(
    [keras.Input((SIDE, SIDE, 3)), mobilenet("block_2_add"), keras.layers.GlobalAveragePooling2D()]
)
inputs = keras.Input((SIDE, SIDE, 3), name="sequential_1_input")
hidden = keras.layers.Dense(100, activation="relu")(body(inputs))
scores = keras.layers.Dense(3, activation="softmax", use_bias=False)(hidden)
write(inputs, hidden, scores, "teachable_machine", 13)
