"""A field for the name of a label, which is added by Enter, or given to another label by a button."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget

HERE = Path(__file__).parent


class LabelBox(anywidget.AnyWidget):
    """A text field and a button. Leaving the field does nothing; Escape clears it.

    An `ipywidgets.Text` also reports its value when it loses the focus, as by a click on an image.
    """

    _esm = HERE / "label_box.js"

    def __init__(self, *, add: Callable[[str], bool], rename: Callable[[str], bool], **traits: Any) -> None:
        """Create an empty field.

        Parameters
        ----------
        add, rename : called with the text, after Enter or a click on the button. True clears the field and
            returns the focus to the panel; False leaves the text for correction.
        """
        super().__init__(**traits)
        self._commands = {"add": add, "rename": rename}

    def _handle_custom_msg(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        super()._handle_custom_msg(content, buffers)
        for name, command in self._commands.items():
            if name in content and command(content[name]):
                self.send({"done": True})

    def __repr__(self) -> str:
        return "[field for a label: run this cell to use it]"
