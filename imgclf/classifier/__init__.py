"""The one file that is the result, `classifier.onnx`: load, predict, export, verify, convert."""
