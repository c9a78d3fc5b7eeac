"""Pretrained networks: architectures, weights, export to ONNX, and import of other ONNX networks."""
