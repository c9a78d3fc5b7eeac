"""Writes custom_vision*.onnx and pytorch_opset11.onnx with the features that torch computes."""

import warnings
from pathlib import Path
import numpy as np, onnx, torch
from onnx import TensorProto as T, helper as h, numpy_helper as nh

OUT = Path(__file__).parent
torch.manual_seed(0)


class Small(torch.nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 7, stride=4)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.conv2 = torch.nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc = torch.nn.Linear(16, classes)
        with torch.no_grad():
            self.bn1.running_mean.normal_(0, 0.1)
            self.bn1.running_var.uniform_(0.5, 1.5)
        self.eval()

    def features(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.conv2(x))
        return torch.nn.functional.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)

    def forward(self, x):
        return torch.softmax(self.fc(self.features(x)), dim=1)


def store(name, model, planes):
    small = np.random.default_rng(7).integers(0, 256, (2, 28, 28, 3), np.uint8)
    images = small.repeat(8, axis=1).repeat(8, axis=2)
    with torch.no_grad():
        found = model.features(
            torch.from_numpy(planes(images).astype(np.float32)).permute(0, 3, 1, 2)
        ).numpy()
    np.savez_compressed(OUT / f"{name}.npz", images=small, features=found)


def inits(m):
    s = {k: v.numpy() for k, v in m.state_dict().items() if "num_batches" not in k}
    return [nh.from_array(v, k) for k, v in s.items()]


def body(m):
    bn = [f"bn1.{k}" for k in ("weight", "bias", "running_mean", "running_var")]
    return [
        h.make_node(
            "Conv", ["data", "conv1.weight", "conv1.bias"], ["conv1"], kernel_shape=[7, 7], strides=[4, 4]
        ),
        h.make_node("BatchNormalization", ["conv1", *bn], ["bn"], epsilon=1e-5),
        h.make_node("Relu", ["bn"], ["relu1"]),
        h.make_node(
            "Conv",
            ["relu1", "conv2.weight", "conv2.bias"],
            ["conv2"],
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        ),
        h.make_node("Relu", ["conv2"], ["relu2"]),
        h.make_node("GlobalAveragePool", ["relu2"], ["pool"]),
        h.make_node("Flatten", ["pool"], ["flat"]),
        h.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["fc"], transB=1),
    ]


# Older export, as onnxmltools converts a Core ML classifier: strings and maps as outputs, weights as inputs.
m = Small()
labels = ["hat", "shirt", "shoe"]
weights = inits(m)
nodes = body(m) + [
    h.make_node("Softmax", ["fc"], ["loss_tensor"], axis=1),
    h.make_node(
        "Constant", [], ["labels"], value=h.make_tensor("l", T.STRING, [3], [x.encode() for x in labels])
    ),
    h.make_node("ArgMax", ["loss_tensor"], ["index"], axis=1, keepdims=0),
    h.make_node("ArrayFeatureExtractor", ["labels", "index"], ["classLabel"], domain="ai.onnx.ml"),
    h.make_node("ZipMap", ["loss_tensor"], ["loss"], domain="ai.onnx.ml", classlabels_strings=labels),
]
loss = h.make_value_info(
    "loss",
    h.make_sequence_type_proto(h.make_map_type_proto(T.STRING, h.make_tensor_type_proto(T.FLOAT, None))),
)
g = h.make_graph(
    nodes,
    "mlmodel",
    [h.make_tensor_value_info("data", T.FLOAT, ["None", 3, 224, 224])]
    + [h.make_tensor_value_info(t.name, t.data_type, t.dims) for t in weights],
    [h.make_tensor_value_info("classLabel", T.STRING, [1]), loss],
    weights,
)
model = h.make_model(
    g,
    opset_imports=[h.make_opsetid("", 7), h.make_opsetid("ai.onnx.ml", 1)],
    ir_version=3,
    producer_name="OnnxMLTools",
    producer_version="1.2",
)
h.set_model_props(
    model,
    {
        "Image.BitmapPixelFormat": "Bgr8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
    },
)
onnx.save(model, OUT / "custom_vision_2018.onnx")
store("custom_vision_2018", m, lambda im: im[..., ::-1].copy())

# Newer export: one image, one output, no metadata.
m = Small()
nodes = body(m) + [h.make_node("Softmax", ["fc"], ["model_output"], axis=1)]
g = h.make_graph(
    nodes,
    "torch_jit",
    [h.make_tensor_value_info("data", T.FLOAT, [1, 3, 224, 224])],
    [h.make_tensor_value_info("model_output", T.FLOAT, [1, 3])],
    inits(m),
)
onnx.save(
    h.make_model(g, opset_imports=[h.make_opsetid("", 11)], ir_version=6, producer_name="pytorch"),
    OUT / "custom_vision.onnx",
)
store("custom_vision", m, lambda im: im / 255)

m = Small()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.onnx.export(
        m,
        (torch.zeros(1, 3, 224, 224),),
        OUT / "pytorch_opset11.onnx",
        dynamo=False,
        opset_version=11,
        input_names=["input"],
        output_names=["output"],
    )
store("pytorch_opset11", m, lambda im: (im / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])
