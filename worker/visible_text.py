"""Which characters of a stranger's text are escaped where it is shown, in the log and on the console."""

import unicodedata

_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def visible(text: object) -> str:
    r"""Text of a stranger with everything invisible, and all that turns text, escaped, like `\u202e`."""
    return "".join(map(_visible, str(text)))


def visible_lines(text: str) -> str:
    """The same of each line of a longer text."""
    return "\n".join(map(visible, text.split("\n")))


def _visible(character: str) -> str:
    if character == " " or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
