"""From a folder of images to an image classifier you can trust and serve."""

import os
import sys

__version__ = "0.1.0"

# `import openvino` writes a client id into the home folder and sends an event when it finds this
# package; without it OpenVINO falls back to its own do-nothing stub.
sys.modules.setdefault("openvino_telemetry", None)

# ONNX Runtime writes a device id into the home folder when it is imported, before its own switch can be reached.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Threads of torch that wait by spinning make two busy cores 3 to 5 times slower than one; OpenMP
# reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class ImgclfError(Exception):
    """Something a person can mend: one sentence with what is wrong, where, and what to do."""
