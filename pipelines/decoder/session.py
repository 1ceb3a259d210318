"""One request from start to end: read, check in order of cost, ask, decode once, write."""

import gc
import hashlib
import os
import traceback
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Protocol

import pyvips

from pipelines import formats
from pipelines.decoder import (
    colour,
    kinds,
    pixel_memory,
    placeholder,
    reading,
    refusal,
    render,
    shortage,
    vips,
)
from pipelines.decoder.limits import trim_large_heap
from pipelines.decoder.picture import Picture
from pipelines.decoder.refusal import Declined
from pipelines.decoder.wire import Channel, close_all
from pipelines.placeholders import Kind

_GROUP_LASTS_S = 0.25  # after which no picture of a group is begun: others wait for this decoder, too
_GROUP_BYTES = 4 * formats.MIB  # of variants, likewise: all of them are in memory until the end
_NOT_ARRIVED = "the picture did not arrive: too many open files"
_MOST_KEPT = 34 * formats.MIB  # bytes without a use: a child that keeps a little more is ended
_FOR_A_HEADER = 96 * formats.MIB  # beside the file itself; beyond that the parent ends its decoder


class Decoder(Protocol):
    """A module that reads headers; `vips` and `pillow` are the two."""

    def probe(self, format: formats.Format, data: bytearray, damaged: str) -> Picture: ...

    def samples(self, name: str) -> list[bytes]: ...

    def version(self) -> str: ...


@dataclass(frozen=True)
class Limits:
    """The limits of the pictures that this child accepts."""

    engine: str
    max_bytes: int
    max_pixels: int
    formats: tuple[str, ...]
    damaged: str
    decoder: Decoder
    output: int
    """The descriptor of the file for variants."""


class WrongEngine(Exception):
    """The picture is for the other kind of child, so the file is not the one whose format the parent read."""


@dataclass
class Work:
    """A request as far as it has been worked on."""

    sha256: str | None = None
    format: str | None = None
    ms: dict[str, float] = field(default_factory=dict)
    bytes: int = 0
    estimate: int = 0
    held: int = 0
    """Bytes of the estimate that are no part of the heap."""
    bug: bool = False
    _since: float = field(default_factory=perf_counter)

    def lap(self, stage: str) -> None:
        """Count the time since the last lap towards a stage."""
        now = perf_counter()
        self.ms[stage] = round(self.ms.get(stage, 0.0) + (now - self._since) * 1000, 3)
        self._since = now

    def resume(self) -> None:
        """Count nothing of the time that has passed since the last lap."""
        self._since = perf_counter()


Ask = Callable[[dict[str, Any]], reading.Output | None]
"""Tells what a header says, and returns where the variants may be written; None where none may be made."""


def answer(channel: Channel, request: dict[str, Any], descriptors: list[int], limits: Limits) -> Work:
    """Answer one request and return what it took; after a bug the child must not be used again."""

    def ask(probed: dict[str, Any]) -> reading.Output | None:
        channel.send(probed)
        consent, more = channel.receive() or ({"proceed": False}, [])
        descriptors.extend(more)
        return reading.Output(limits.output) if consent["proceed"] else None

    work = Work()
    reply = _reply(ask, request, descriptors, limits, work)
    if reply is not None:
        channel.send(reply)
    return work


def answer_group(
    channel: Channel, request: dict[str, Any], descriptors: list[int], limits: Limits
) -> Sequence[Work]:
    """Answer several requests one after the other, each in a file of its own, and say at the end that it is.

    Those whose turn does not come soon are deferred, and so are those that want more memory than granted,
    unless they have the same pixels in less.
    """
    group, shared = request["group"], {name: request[name] for name in ("variants", "placeholder")}
    if len(descriptors) != 2 * len(group):
        close_all(descriptors)
        channel.send({"status": "starved", "message": _NOT_ARRIVED})
        return []
    began, written, works = perf_counter(), 0, list[Work]()
    for asked in group:
        [source, file] = descriptors[:2]
        del descriptors[:2]
        if works and (perf_counter() - began > _GROUP_LASTS_S or written > _GROUP_BYTES):
            os.close(source)
            reading.write_answer(file, None, {"status": "deferred", "late": True})
        else:
            output = reading.Output(file, reading.ANSWER_BYTES)
            single = {**asked, **shared, "most": request["granted"], "in_group": True}
            reply, probed, work = _reply_in_group(single, source, output, limits)
            reading.write_answer(file, probed, reply)
            written += output.size
            works.append(work)
        os.close(file)  # what comes later, and may be hostile, cannot change it any more
        if works[-1].bug:
            break
    close_all(descriptors)
    channel.send({"status": "answered"})
    return works


def _reply_in_group(
    request: dict[str, Any], source: int, output: reading.Output, limits: Limits
) -> tuple[dict[str, Any], dict[str, Any] | None, Work]:
    """The answer to one request of a group, what the header says, and what it took."""
    probed: dict[str, Any] | None = None

    def ask(found: dict[str, Any]) -> reading.Output | None:
        nonlocal probed
        probed = found
        return output if found["estimate"] <= request["most"] else None

    work = Work()
    reply = _reply(ask, request, [source], limits, work)
    return reply or {"status": "deferred", "late": False}, probed, work


def _reply(
    ask: Ask, request: dict[str, Any], descriptors: list[int], limits: Limits, work: Work
) -> dict[str, Any] | None:
    """The answer to one request, whose descriptors are closed then; None where it may not go on."""
    reply: dict[str, Any] | None
    try:
        reply = _process(ask, request, descriptors, limits, work)
    except Declined as refused:
        reply = _refusal(refused)
    except MemoryError:
        title = formats.BY_NAME[work.format].title if work.format else "uploaded"
        reply = _refusal(refusal.too_much_memory(title))
    except reading.FileError as error:
        reply = {"status": "unwritable", "errno": error.number}
    except Exception as error:
        message = f"{type(error).__name__}: {error}"[:300]
        reply = {"status": "bug", "message": message, "traceback": traceback.format_exc()[-8000:]}
        work.bug = True
    close_all(descriptors)  # before the answer: its reader may rely on it
    if reply is None:
        return None
    if trim_large_heap() + pixel_memory.kept() > _MOST_KEPT:  # before the parent measures this process
        pixel_memory.give_back()
    lack = _lack(reply, work)
    return {"status": "starved", "message": lack} if lack else reply


def _lack(reply: dict[str, Any], work: Work) -> str:
    """What the machine refused, where an answer may be due to that; "" where the answer is to be believed.

    Libraries say "unable to read pixels" for a thread that they did not get.
    """
    match reply:
        case {"status": "refused", "code": refusal.STARVED, "message": message}:
            return str(message)
        case {"status": "refused", "code": "too_much_memory"}:
            gc.collect()
            return shortage.found(work.estimate or work.bytes + _FOR_A_HEADER)
        case {"status": "refused", "code": "corrupt_image" | "unsupported_format"} if work.format:
            return shortage.found(work.estimate)
        case {"status": "bug", "message": message}:
            return str(message) if shortage.is_meant_by(str(message)) else shortage.found(work.estimate)
        case _:
            return ""


def _refusal(refused: Declined) -> dict[str, Any]:
    cause = refused.__cause__
    told = {"traceback": "".join(traceback.format_exception(cause))[-8000:]} if cause is not None else {}
    return {"status": "refused", "code": refused.code, "message": refused.message, **told}


def _process(
    ask: Ask, request: dict[str, Any], descriptors: list[int], limits: Limits, work: Work
) -> dict[str, Any] | None:
    if not descriptors:
        raise refusal.starved(_NOT_ARRIVED)
    [source] = descriptors
    specs = request["variants"]
    size = work.bytes = int(request["bytes"])
    if size > limits.max_bytes:
        raise refusal.too_large(size, limits.max_bytes)
    data = reading.read_once(source, size)
    work.lap("read")
    if data is None:
        return {"status": "changed"}
    work.sha256 = hashlib.sha256(data).hexdigest()
    work.lap("hash")
    wanted = {spec["name"] for spec in specs}
    if work.sha256 == request["known_sha256"]:
        wanted &= {*request["missing"]}
        if not wanted:
            return {"status": "unchanged", "sha256": work.sha256}
    try:
        with _distrust(work):
            picture = check(data, limits, work)
            work.estimate = _estimate(picture, specs, size, work)
            if work.estimate > request.get("most", work.estimate) and picture.streamed:
                # Alone, it would be refused. Out of a group it may have the memory for the bytes of its name.
                if not request.get("in_group") or _streams_alike(picture, specs):
                    picture = picture.streamed()
                work.estimate = _estimate(picture, specs, size, work)
    except WrongEngine:
        return {"status": "changed"}
    work.lap("probe")
    output = ask(
        {
            "status": "probed",
            "sha256": work.sha256,
            "format": work.format,
            "width": picture.width,
            "height": picture.height,
            "estimate": work.estimate,
        }
    )
    if output is None:
        return None
    work.resume()
    with _in_words(picture.format, data):
        return make(picture, specs, output, work, wanted, request["placeholder"])


@contextmanager
def _distrust(work: Work) -> Iterator[None]:
    """Refuse a file whose bytes make this code, or a library's, raise what nobody foresaw.

    It is no fault to try again, and none to end a child for: the bytes are the same each time.
    """
    try:
        yield
    except (Declined, WrongEngine, MemoryError):
        raise
    except pyvips.Error as error:
        if not work.format:
            raise
        raise vips.refusal(formats.BY_NAME[work.format], error) from None
    except Exception as error:
        if shortage.is_meant_by(str(error)):
            raise
        title = formats.BY_NAME[work.format].title if work.format else "uploaded"
        raise refusal.corrupt(title) from error


@contextmanager
def _in_words(format: formats.Format, data: bytearray) -> Iterator[None]:
    """Refuse what is not damaged but of a kind that no library here reads as that."""
    try:
        yield
    except Declined as refused:
        damaged = refused.code in ("corrupt_image", "unsupported_format")
        if damaged and (kind := kinds.unsupported(format.name, data)):
            raise refusal.unknown_kind(format.title, kind) from None
        raise


def _estimate(picture: Picture, specs: Sequence[dict[str, Any]], size: int, work: Work) -> int:
    order = render.targets(picture.width, picture.height, specs)
    pixels = order[0].width * order[0].height
    rows, work.held = render.rows_at_hand(picture, order[0]), render.held(picture, order[0])
    shape = replace(picture.decoded, rows=rows, held=picture.decoded.held + work.held)
    encoders = {render.encoder(spec) for spec in specs}
    return max(picture.format.estimate(shape, size, pixels, encoder) for encoder in encoders)


def _streams_alike(picture: Picture, specs: Sequence[dict[str, Any]]) -> bool:
    [largest, *_] = render.targets(picture.width, picture.height, specs)
    return render.streams_alike(picture, largest, halved=all(map(render.halves_colours, specs)))


def check(data: bytearray, limits: Limits, work: Work) -> Picture:
    """Return the picture with its header read, or raise the first reason to refuse it, in order of cost."""
    if not data:
        raise refusal.empty()
    head = bytes(data[: formats.HEAD])
    format = formats.sniff(head)
    accepted = [formats.BY_NAME[name].title for name in limits.formats]
    if format is None:
        raise refusal.unsupported(formats.describe(head), accepted)
    work.format = format.name
    if format.name not in limits.formats:
        raise refusal.unsupported(f"a {format.title} picture", accepted)
    if format.engine not in ("vips", limits.engine):
        raise WrongEngine
    with _in_words(format, data):
        picture = limits.decoder.probe(format, data, limits.damaged)
    if min(picture.width, picture.height) < 1:
        raise refusal.corrupt(format.title, "it has no pixels")
    if picture.decoded.pixels > limits.max_pixels:
        across, down = picture.decoded.width, picture.decoded.height
        raise refusal.too_many_pixels(
            *((down, across) if picture.turned else (across, down)), limits.max_pixels
        )
    if picture.excess:
        raise refusal.unknown_kind(format.title, picture.excess)
    return picture


def make(
    picture: Picture,
    specs: Sequence[dict[str, Any]],
    output: reading.Output,
    work: Work,
    wanted: Container[str],
    kind: Kind = "thumbhash",
) -> dict[str, Any]:
    """Write the `wanted` variants to the output, all from one decode, and return the answer.

    The others are made as far as those come from them, so that one that is made alone has the same bytes. The
    placeholder, of that `kind`, is of the smallest with the picture's own proportions, wanted or not.
    """
    order = render.targets(picture.width, picture.height, specs)
    backgrounds = {target.background for target in order}
    halved = all(map(render.halves_colours, specs))
    shown = render.smallest_whole(order) if kind != "none" else None
    while order[-1].name not in wanted and order[-1] is not shown:
        order.pop()
    made: dict[int, dict[str, Any]] = {}
    places: dict[tuple[Any, ...], tuple[int, int]] = {}
    small = None
    try:
        with _distrust(work):
            image = render.first(picture, order[0], backgrounds, halved=halved)
        size = order[0].size
        work.lap("decode")
        for target in order:
            if target.size != size:
                size = target.size
                image = render.smaller(image, *size)
            if target.name not in wanted and target is not shown:
                continue
            part = render.crop(image, target)
            if len(backgrounds) > 1:
                part = render.flatten(part, target.background)
            if target is shown:
                small = placeholder.make(part, kind)
            work.lap("resize")
            if target.name not in wanted:
                continue
            key = target.encoding_key
            if key not in places:
                content = render.encode(part, target)
                places[key] = output.add(content), len(content)
            start, count = places[key]
            made[target.index] = {
                "name": target.name,
                "width": target.crop_width,
                "height": target.crop_height,
                "start": start,
                "bytes": count,
            }
            work.lap("encode")
        dominant = colour.dominant(part)
        work.lap("resize")
    except pyvips.Error as error:
        raise vips.refusal(picture.format, error) from None
    return {
        "status": "done",
        "color": dominant,
        "placeholder": small,
        "variants": [made[index] for index in sorted(made)],
        "ms": work.ms,
    }
