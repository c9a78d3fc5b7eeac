"""Pretrained networks: their architectures, weights, and export to ONNX."""
