"""A field for the name of a label, which is added by Enter, or given to another label by a button."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Bool

HERE = Path(__file__).parent


class LabelBox(anywidget.AnyWidget):
    """A text field, and a button if labels can be renamed. Leaving the field does nothing; Escape clears it.

    An `ipywidgets.Text` also reports its value when it loses the focus, as by a click on an image.
    """

    _esm = HERE / "label_box.js"
    can_rename = Bool(True).tag(sync=True)

    def __init__(
        self, *, add: Callable[[str], bool], rename: Callable[[str], bool] | None = None, **traits: Any
    ) -> None:
        """Create an empty field.

        Parameters
        ----------
        add, rename : called with the text, after Enter or a click on the button. True clears the field and
            returns the focus to the panel; False leaves the text for correction.
        """
        super().__init__(can_rename=rename is not None, **traits)
        self._commands = {"add": add, **({"rename": rename} if rename else {})}

    def _handle_custom_msg(self, content: dict[str, Any], buffers: list[memoryview]) -> None:
        super()._handle_custom_msg(content, buffers)
        for name, command in self._commands.items():
            if name in content and command(content[name]):
                self.send({"done": True})

    def __repr__(self) -> str:
        return "[field for a label: run this cell to use it]"
