"""The answers of a decoder: every frame from a child is untrusted and is checked here."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

MAX_FRAME = 64 * 1024  # bytes
MAX_OUTPUT = 256 * 1024 * 1024  # bytes of all variants together

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def printable(text: str) -> str:
    """The lines of `text` without anything that a terminal obeys."""
    return "\n".join(_UNPRINTABLE.sub(" ", line) for line in text.splitlines())


def _plain(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text)[:300]


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Pixels = Annotated[int, Field(ge=1, le=1_000_000_000)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_plain)]
Traceback = Annotated[str, StringConstraints(max_length=8000), AfterValidator(printable)]
Code = Literal[
    "source_too_large", "unsupported_format", "corrupt_image", "too_many_pixels", "too_much_memory"
]
REFUSALS: tuple[str, ...] = get_args(Code)


class _Frame(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Hello(_Frame):
    """A child is ready: it can open no file, and make no call that it does not need (seccomp).

    `landlock` is the version of the kernel's, 0 for none. It `lacks` those of its limits that the
    system did not let it set, and mozjpeg, if its libvips was built without that.
    """

    hello: Literal[1]
    engine: Literal["vips", "pillow"]
    version: Sentence
    landlock: int
    calls_closed: bool
    lacks: list[Word] = []


class Unchanged(_Frame):
    """The bytes are those that were known already."""

    status: Literal["unchanged"]
    sha256: Sha256


class Changed(_Frame):
    """The file was not the size that it was said to be."""

    status: Literal["changed"]


class Probed(_Frame):
    """The header was read; decoding would take about `estimate` bytes of memory."""

    status: Literal["probed"]
    sha256: Sha256
    format: Word
    width: Pixels
    height: Pixels
    estimate: Annotated[int, Field(ge=0)]


class Written(_Frame):
    """One variant, as the child says it wrote it, and where in its output."""

    name: Word
    width: Pixels
    height: Pixels
    start: Annotated[int, Field(ge=0, le=MAX_OUTPUT)]
    bytes: Annotated[int, Field(ge=1, le=MAX_OUTPUT)]


class Done(_Frame):
    """All variants are written; the placeholder is text, which is read once it is known of what kind."""

    status: Literal["done"]
    color: Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]
    placeholder: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,40}$")] | None = None
    variants: Sequence[Written]
    ms: dict[Word, float]


class Refused(_Frame):
    """The picture is declined; the traceback, for the operator, is of an exception that its bytes caused."""

    status: Literal["refused"]
    code: Code
    message: Sentence
    traceback: Traceback = ""


class Unwritable(_Frame):
    """The source could not be read, or the variants not be written, for a reason of the system's."""

    status: Literal["unwritable"]
    errno: Annotated[int, Field(ge=0, le=4095)]


class Starved(_Frame):
    """The machine refused the child what it needs: a thread, memory, a descriptor."""

    status: Literal["starved"]
    message: Sentence


class Deferred(_Frame):
    """The picture was not decoded in its group: that was `late`, or it wants more memory than others."""

    status: Literal["deferred"]
    late: bool


class Answered(_Frame):
    """Each picture of a group is answered, in the file for its variants."""

    status: Literal["answered"]


class Bug(_Frame):
    """The child itself failed; it ends after saying so."""

    status: Literal["bug"]
    message: Sentence
    traceback: Traceback


Answer = Unchanged | Changed | Probed | Done | Refused | Unwritable | Starved | Deferred | Answered | Bug
ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="status")])


class WrittenAnswer(_Frame):
    """The answer to a picture of a group, and what its header said."""

    probed: Probed | None
    answer: Annotated[Answer, Field(discriminator="status")]
