"""The pictures of activation maps that the results browser shows in place of images."""

from html import escape
from pathlib import Path

from imgclf import ImgclfError
from imgclf.classifier.activation_maps import Explainer
from imgclf.classifier.results import Refused
from imgclf.images import decoding


class OverlayPictures:
    """Activation maps of one image at a time, on or off; nothing is loaded before they are switched on.

    Parameters
    ----------
    classifier : path of the classifier.onnx; None: there are no maps.
    folder : where the paths of images begin. side : longer side of the pictures, pixels, at most.

    Attributes
    ----------
    caption : says what the last picture shows, in HTML; empty while the maps are off.
    """

    def __init__(self, classifier: Path | None, folder: Path, side: int) -> None:
        self._classifier, self._folder, self._side = classifier, folder, side
        self._explainer: Explainer | None = None
        self._is_on = False
        self._last = ("", b"", list[str]())  # key of an image, its picture, and the caption
        self.caption: list[str] = []

    def _loaded(self) -> Explainer:
        if self._classifier is None:
            raise ImgclfError("no classifier was given to this browser; give it classifier=PATH to see maps")
        self._explainer = self._explainer or Explainer.load(self._classifier)
        return self._explainer

    def toggle(self) -> str:
        """Switch the maps on or off; return a message.

        Raises
        ------
        ImgclfError : the classifier has no maps; they stay off.
        """
        if not self._is_on:
            self._loaded()
        self._is_on = not self._is_on
        self.caption = []
        return "activation maps are shown; M hides them" if self._is_on else "activation maps are hidden"

    def of(self, key: str, path: str) -> bytes:
        """Return the overlay of an image as a JPEG; b"" while the maps are off, or if it cannot be read.

        Parameters
        ----------
        key : stands for the content of the image.
        """
        if not self._is_on:
            return b""
        if key != self._last[0]:
            ((_, found),) = self._loaded().explain_files([self._folder / path], side=self._side)
            if isinstance(found, Refused):
                self._last = (key, b"", [])
            else:
                caption = f"map: yellow speaks most for <b>{escape(found.map.label)}</b>"
                self._last = (key, decoding.jpeg(found.map.overlay(found.picture)), [caption])
        _, picture, self.caption = self._last
        return picture
