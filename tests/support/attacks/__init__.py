"""Hostile requests to the HTTP face, each with the answer that it must get."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Values = Mapping[str, str]
"""What the places of a request stand for, such as `@ALICE@` for her key."""

_PLACE = re.compile(rb"@([A-Z_]+)@")
_PART = 1024


@dataclass(frozen=True)
class Attack:
    """A request as its bytes, places in it, and what is answered: `404 not_found`, or a status alone."""

    answer: str
    line: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    chunked: bool = False
    then_leaves: bool = False
    then: bytes = b""
    """What is sent once an answer has begun."""
    whole: bytes = field(default=b"", repr=False)
    """All that is sent, where it is no request that a client would make."""

    @property
    def status(self) -> str:
        return self.answer.partition(" ")[0]

    @property
    def code(self) -> str:
        return self.answer.partition(" ")[2]

    def is_of(self, *names: str) -> bool:
        """Whether one of those places is in it."""
        told = self.line.encode("latin-1") + repr(self.headers).encode() + self.body + self.whole
        return any(b"@%b@" % name.encode() in told for name in names)

    def bytes_with(self, values: Values) -> bytes:
        """What is sent."""
        if self.whole:
            return filled(self.whole, values)
        body = filled(self.body, values)
        said = {name.lower() for name, _ in self.headers}
        headers = list(self.headers)
        if "host" not in said:
            headers.insert(0, ("Host", "@HOST@"))
        if self.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
            parts = [body[at : at + _PART] for at in range(0, len(body), _PART)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
        elif body and "content-length" not in said:
            headers.append(("Content-Length", str(len(body))))
        lines = [f"{self.line} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        return filled("\r\n".join(lines).encode("latin-1"), values) + body


def filled(template: bytes, values: Values) -> bytes:
    """The template with what its places stand for."""
    return _PLACE.sub(lambda found: values[found[1].decode()].encode("latin-1"), template)


def call(
    answer: str,
    line: str,
    key: str | None = "@ALICE@",
    *,
    body: bytes = b"",
    chunked: bool = False,
    more: Sequence[tuple[str, str]] = (),
    **headers: str,
) -> Attack:
    """A request that HTTP allows, with a key; `_` in names of headers stands for `-`."""
    known = [] if key is None else [("Authorization", f"Bearer {key}")]
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Attack(answer, line, [*known, *named, *more], body, chunked)


def raw(answer: str, whole: bytes, *, then_leaves: bool = False, then: bytes = b"") -> Attack:
    """Bytes that no client would send."""
    return Attack(answer, "", whole=whole, then_leaves=then_leaves, then=then)
