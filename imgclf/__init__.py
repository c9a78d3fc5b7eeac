"""From a folder of images to an image classifier you can trust and serve."""

import os
import sys

__version__ = "0.1.0"

# `import openvino` writes a client id into the home folder and sends an event if it finds this package.
# None makes its import fail, and OpenVINO uses its own stub, which does nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is allowed here

# ONNX Runtime writes a device id into the home folder on import, before its own switch can be set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# With two busy cores, torch is 3 to 5 times slower if its idle OpenMP threads spin. OpenMP reads this
# variable when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class ImgclfError(Exception):
    """An error that the user can fix. The message says what is wrong, where, and what to do."""
