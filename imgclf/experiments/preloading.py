"""What a kernel loads while it waits for its notebook."""

from contextlib import suppress
from importlib import import_module

# Libraries that all notebooks load sooner or later. Torch is not one of them: it takes as much memory as all.
LIBRARIES = (
    "imgclf.experiments.notebook_format",
    "pandas",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "bqplot",
    "anywidget",
    "cv2",
    "onnx",
    "openvino",
    "sklearn.decomposition",
    "sklearn.linear_model",
    "sklearn.model_selection",
)
LINE = f"__import__({__name__!r}, fromlist=['load']).load()"  # code that loads them and defines no name


def load() -> None:
    """Load the libraries; one that is missing or broken is left to the notebook that needs it."""
    for name in LIBRARIES:
        with suppress(Exception):
            import_module(name)
