"""What a `Reader` asks, each by one statement that both databases answer from an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    ScalarSelect,
    Select,
    String,
    Subquery,
    Text,
    TextClause,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from storage.catalog.expressions import first_letter
from storage.catalog.records import State
from storage.catalog.tables import (
    IS_FAILED,
    IS_NAMED,
    IS_PUT_OFF,
    about,
    dead_letters,
    outbox,
    owner,
    summed,
    totals,
    uploads,
    variants,
)

Query = Select[Any]
Condition = ColumnElement[bool] | TextClause

OF_A_VARIANT = ("name", "key", "width", "height", "bytes", "sha256")
_OF_AN_UPLOAD = (
    *("id", "source", "owner", "state", "recipe", "metadata", "attempts", "claim"),
    *("queued_ms", "changed_ms", "not_before_ms", "event_ms", "error_code", "error_message", "seen"),
    *("stamp", "sha256", "bytes", "format", "width", "height", "color", "traceparent"),
    *("thumbhash", "blurhash", "placeholder_of", "placeholder_tried"),
)


class rows_as_json(FunctionElement[str]):  # noqa: N801 (a function of SQL)
    """The rows of a query in one text: a JSON array of arrays, or null where there are none."""

    type = Text()
    inherit_cache = True


@compiles(rows_as_json)
def _rows_as_json(element: rows_as_json, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    return f"json_group_array(json_array({compiler.process(element.clauses, **options)}))"


class unindexed(FunctionElement[str]):  # noqa: N801 (a function of SQL)
    """A column by which rows that another condition has found are told apart.

    Without statistics SQLite may take it for the one that selects most; Postgres has some.
    """

    type = String()
    inherit_cache = True


@compiles(unindexed)
def _unindexed(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    return f"+{compiler.process(element.clauses, **options)}"


_MADE = variants.alias("made")  # whether it is a current one or not
_CURRENT = (
    select(rows_as_json(*(variants.c[name] for name in OF_A_VARIANT)))
    .where(variants.c.upload_id == uploads.c.id, variants.c.superseded_ms.is_(None))
    .correlate(uploads)
    .scalar_subquery()
    .label("variants")
)
_UPLOAD = select(*(uploads.c[name] for name in _OF_AN_UPLOAD), _CURRENT)

ONE: Query = _UPLOAD.where(uploads.c.id == bindparam("id", type_=String))
ONE_OF_VARIANT: Query = _UPLOAD.where(
    uploads.c.id
    == select(_MADE.c.upload_id).where(_MADE.c.key == bindparam("key", type_=String)).scalar_subquery()
)

_LIMIT = bindparam("limit", type_=Integer)
SOME_BETWEEN: Query = (
    _UPLOAD.where(uploads.c.id.between(bindparam("id", type_=String), bindparam("last_id", type_=String)))
    .order_by(uploads.c.id)
    .limit(_LIMIT)
)
_ONE: ColumnElement[int] = literal_column("1", Integer).label("one")
_LOOK = bindparam("look", type_=Integer)
_PREFIX = bindparam("source_prefix", type_=Text)
_BEHIND_PREFIX = bindparam("behind_prefix", type_=Text)
_BELOW = (uploads.c.source >= _PREFIX, uploads.c.source < _BEHIND_PREFIX)


@dataclass(frozen=True)
class PageShape:
    """Which filters are set, and what says by which index the rows are found: that which selects most.

    `filters` are names of parameters. Where `few` uploads have the prefix of sources, they are sorted.
    """

    filters: frozenset[str]
    goes_on: bool = False
    hides_deleted: bool = False
    of_many: bool = False  # in a state that most uploads are in
    of_default: bool = False  # by the recipe that most uploads have
    of_failed: bool = False  # in the state of failed uploads, which have indexes of their own
    is_put_off: bool = False  # waits for another try: those have an index of their own
    few: bool = False

    @property
    def leading(self) -> str | None:
        """The filter by whose index the rows are found, None: they are read in their order."""
        if self.few:
            return "source_prefix"
        if self.is_put_off:
            return None
        first = ["code", "owner"] if self.of_failed else ["code"]
        names = [*first, *([] if self.of_many else ["state"]), "owner"]
        names += ["state", *([] if self.of_default else ["recipe"])]
        return next((name for name in names if name in self.filters), None)

    @property
    def by_index(self) -> Sequence[str]:
        """The filters that select the part of an index that is read."""
        if self.few:
            return ["source_prefix"]
        names = [self.leading, *(["state"] if self.of_failed else []), "since_ms"]
        if self.of_failed and self.leading == "code":
            names.append("owner")
        return [name for name in dict.fromkeys(names) if name in self.filters]


@lru_cache(maxsize=512)
def page(shape: PageShape) -> Query:
    """Uploads newest first; the parameters are the filters that are set, and the place before the first."""
    wanted = [*_by_index(shape), *_by_row(shape)]
    return _UPLOAD.where(*wanted).order_by(*(column.desc() for column in _order(shape))).limit(_LIMIT)


@lru_cache(maxsize=512)
def page_within(shape: PageShape) -> Query:
    """The same of the first `look` uploads that an index gives."""
    looked_at = _newest(shape).add_columns(uploads.c.number, _fits(shape).label("fits"))
    some = looked_at.limit(_LOOK).subquery()
    fitting = select(some.c.number).where(some.c.fits).limit(_LIMIT)
    wanted = _UPLOAD.where(uploads.c.number.in_(fitting))
    return wanted.order_by(unindexed(uploads.c.changed_ms).desc(), unindexed(uploads.c.id).desc())


@lru_cache(maxsize=512)
def place_after(shape: PageShape) -> Query:
    """The place of the last of the first `look` uploads that an index gives, if there are so many."""
    return _newest(shape).add_columns(uploads.c.changed_ms, uploads.c.id).offset(_LOOK - 1).limit(1)


@lru_cache(maxsize=512)
def count(shape: PageShape) -> Query:
    """How many uploads fit, `limit` at most, of the first `look`; and how many those were, `look` at most.

    Where an index alone tells, none is looked at that does not fit.
    """
    newest = _newest(shape)
    if not _by_row(shape):
        fitting = newest.add_columns(_ONE).limit(_LIMIT).subquery()
        return _counts(_rows_of(fitting), literal(0))
    looked_at = newest.add_columns(_fits(shape).label("fits")).limit(_LOOK).subquery()
    fitting = select(looked_at.c.fits).where(looked_at.c.fits).limit(_LIMIT).subquery()
    passed = newest.add_columns(_ONE).limit(_LOOK).subquery()
    return _counts(_rows_of(fitting), _rows_of(passed))


def _newest(shape: PageShape) -> Query:
    """Nothing yet of the uploads that an index gives, newest first, or by their sources."""
    found: Query = select().select_from(uploads).where(*_by_index(shape))
    return found if shape.few else found.order_by(*(column.desc() for column in _order(shape)))


def _fits(shape: PageShape) -> ColumnElement[bool]:
    return and_(true(), *_by_row(shape))


def _counts(fitting: ColumnElement[int], looked_at: ColumnElement[int]) -> Query:
    columns: list[ColumnElement[Any]] = [fitting.label("fitting"), looked_at.label("looked_at")]
    return select(*columns)


def _rows_of(rows: Subquery) -> ScalarSelect[int]:
    return select(func.count()).select_from(rows).scalar_subquery()


def _order(shape: PageShape) -> Sequence[ColumnElement[Any]]:
    place = [uploads.c.changed_ms, uploads.c.id]
    return [unindexed(column) for column in place] if shape.few else place


def _by_index(shape: PageShape) -> Sequence[Condition]:
    """What selects the part of an index that is read."""
    wanted = [one for name in shape.by_index for one in _conditions(name, shape)]
    if shape.is_put_off and not shape.few:
        wanted.append(IS_PUT_OFF)
    return wanted if shape.few else [*wanted, *_behind_the_last(shape)]


def _by_row(shape: PageShape) -> Sequence[Condition]:
    """What each upload is asked that the index gives."""
    names = sorted(shape.filters - set(shape.by_index))
    wanted = [one for name in names for one in _conditions(name, shape)]
    if shape.hides_deleted:
        wanted.append(unindexed(uploads.c.state) != State.DELETED)
    if shape.is_put_off and shape.few:
        waits = or_(*(unindexed(uploads.c.state) == state for state in (State.QUEUED, State.DELETING)))
        wanted += [waits, unindexed(uploads.c.error_code).is_not(None)]
    return [*wanted, *_behind_the_last(shape)] if shape.few else wanted


def _behind_the_last(shape: PageShape) -> Sequence[Condition]:
    if not shape.goes_on:
        return []
    after = bindparam("after_ms", type_=BigInteger), bindparam("after_id", type_=String)
    return [tuple_(*_order(shape)) < tuple_(*after)]


def _conditions(name: str, shape: PageShape) -> Sequence[Condition]:
    if name == "since_ms":
        changed = unindexed(uploads.c.changed_ms) if shape.few else uploads.c.changed_ms
        return [changed >= bindparam("since_ms", type_=BigInteger)]
    if name == "source_prefix":
        return _BELOW if shape.few else [func.substr(uploads.c.source, 1, func.length(_PREFIX)) == _PREFIX]
    if name == "state" and shape.of_failed and not shape.few:
        return [IS_FAILED]  # an index of failures serves no state that is a parameter
    column, leads = _COLUMNS[name], name in shape.by_index
    same = (column if leads else unindexed(column)) == bindparam(name, type_=String)
    return [same, IS_NAMED] if leads and name == "recipe" else [same]


_COLUMNS: dict[str, ColumnElement[Any]] = {
    "state": uploads.c.state,
    "code": uploads.c.error_code,
    "recipe": uploads.c.recipe,
    "owner": owner,
}

COUNT_BELOW: Query = select(func.count().label("count")).select_from(
    select(uploads.c.number).where(*_BELOW).limit(_LIMIT).subquery()
)

FAILED_CODES: Query = (
    select(totals.c.detail)
    .where(totals.c.what == "upload", totals.c.name == State.FAILED)
    .group_by(totals.c.detail)
    .having(func.sum(totals.c.files) > 0)
)


@lru_cache(maxsize=16)
def failed_since(windows: int, *, of_owner: bool = False) -> Query:
    """How many of the newest `limit` failures with a code came in each of so many windows."""
    is_theirs = owner == bindparam("owner", type_=String) if of_owner else true()
    newest = (
        select(uploads.c.changed_ms)
        .where(IS_FAILED, uploads.c.error_code == bindparam("code", type_=String), is_theirs)
        .order_by(uploads.c.changed_ms.desc(), uploads.c.id.desc())
        .limit(_LIMIT)
        .subquery()
    )
    return select(*_in_windows(newest.c.changed_ms, windows)).select_from(newest)


@lru_cache(maxsize=64)
def failed_since_of_some(shape: PageShape, windows: int) -> Query:
    """How many of the first `look` failures came in each of so many windows, by code."""
    newest = _newest(shape).add_columns(uploads.c.error_code, uploads.c.changed_ms)
    looked_at = newest.add_columns(_fits(shape).label("fits")).limit(_LOOK).subquery()
    columns: list[ColumnElement[Any]] = [looked_at.c.error_code]
    columns += _in_windows(looked_at.c.changed_ms, windows)
    return select(*columns).where(looked_at.c.fits).group_by(looked_at.c.error_code)


def _in_windows(changed_ms: ColumnElement[int], windows: int) -> Sequence[ColumnElement[Any]]:
    begins = [bindparam(f"since_{number}", type_=BigInteger) for number in range(windows)]
    return [
        summed(case((changed_ms >= begin, 1), else_=0)).label(f"window_{number}")
        for number, begin in enumerate(begins)
    ]


@lru_cache(maxsize=64)
def put_off(shape: PageShape) -> Query:
    """How many of the first `look` that are put off fit, when the next try is due, and how many those are."""
    newest = select(uploads.c.not_before_ms).where(*_by_index(shape)).select_from(uploads)
    newest = newest.order_by(*(column.desc() for column in _order(shape)))
    looked_at = newest.add_columns(and_(true(), *_by_row(shape)).label("fits")).limit(_LOOK).subquery()
    fits = looked_at.c.fits
    columns: list[ColumnElement[Any]] = [
        summed(case((fits, 1), else_=0)).label("fitting"),
        func.min(case((fits, looked_at.c.not_before_ms))).label("next_ms"),
        func.count().label("looked_at"),
    ]
    return select(*columns).select_from(looked_at)


AT_ONCE = 500  # ids in one question
NAMES_AT_ONCE = [f"id_{place}" for place in range(AT_ONCE)]
_ONE_OF_SOME = uploads.c.id.in_([bindparam(name, type_=String) for name in NAMES_AT_ONCE])
STATES: Query = select(uploads.c.id, uploads.c.state).where(_ONE_OF_SOME)
STATE_COUNTS: Query = (
    select(uploads.c.state, func.count().label("count")).where(_ONE_OF_SOME).group_by(uploads.c.state)
)

OLDEST_QUEUED: Query = select(func.min(uploads.c.changed_ms).label("changed_ms")).where(
    uploads.c.state == State.QUEUED
)

AT_WORK: Query = (
    select(uploads.c.id, uploads.c.source, owner.label("owner"), uploads.c.holder, uploads.c.changed_ms)
    .where(uploads.c.state == State.PROCESSING)
    .order_by(uploads.c.changed_ms, uploads.c.id)
    .limit(_LIMIT)
)

_OF_MESSAGES = (
    select(
        outbox.c.seq,
        outbox.c.body,
        outbox.c.traceparent,
        case((uploads.c.id.is_(None), null()), else_=owner).label("owner"),
    )
    .select_from(outbox.outerjoin(uploads, uploads.c.id == about))
    .limit(_LIMIT)
)
_OF_ONE = about == bindparam("id", type_=String)
_MESSAGES = _OF_MESSAGES.where(outbox.c.seq > bindparam("since", type_=BigInteger)).order_by(outbox.c.seq)
MESSAGES: Query = _MESSAGES
MESSAGES_OF_ONE: Query = _MESSAGES.where(_OF_ONE)
NEWEST_OF_ONE: Query = _OF_MESSAGES.where(_OF_ONE).order_by(outbox.c.seq.desc())
MESSAGE_HEADS: Query = (
    select(
        outbox.c.seq,
        outbox.c.made_ms,
        first_letter(outbox.c.body, "kind").label("kind"),
        first_letter(outbox.c.body, "recipe").label("recipe"),
        case((uploads.c.changed_ms == outbox.c.made_ms, uploads.c.queued_ms)).label("queued_ms"),
    )
    .select_from(outbox.outerjoin(uploads, uploads.c.id == about))
    .where(outbox.c.seq > bindparam("since", type_=BigInteger))
    .order_by(outbox.c.seq)
    .limit(_LIMIT)
)
FIRST_SEQ_SINCE: Query = (
    select(outbox.c.seq)
    .where(outbox.c.made_ms >= bindparam("since_ms", type_=BigInteger))
    .order_by(outbox.c.made_ms)
    .limit(1)
)
NEWEST_SEQ: Query = select(func.max(outbox.c.seq).label("seq"))
OLDEST_SEQ: Query = select(func.min(outbox.c.seq).label("seq"))

_LETTERS = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(_LIMIT)
LETTERS: Query = _LETTERS
LETTERS_AFTER: Query = _LETTERS.where(dead_letters.c.id < bindparam("after", type_=BigInteger))
LETTER: Query = select(dead_letters).where(dead_letters.c.id == bindparam("letter", type_=BigInteger))
_NEWEST_LETTERS = (
    select(dead_letters.c.received_ms).order_by(dead_letters.c.id.desc()).limit(_LIMIT).subquery()
)
COUNT_LETTERS: Query = (
    select(func.count().label("count"))
    .select_from(_NEWEST_LETTERS)
    .where(_NEWEST_LETTERS.c.received_ms >= bindparam("since_ms", type_=BigInteger))
)
# Looked for from the newest one down: of the many that may be older none but the first is read.
_BEFORE = (
    select(dead_letters.c.id)
    .where(dead_letters.c.received_ms < bindparam("since_ms", type_=BigInteger))
    .order_by(dead_letters.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
LETTERS_BY_MINUTE: Query = (
    select((dead_letters.c.received_ms // 60_000).label("minute"), func.count().label("count"))
    .where(dead_letters.c.id > func.coalesce(_BEFORE, 0))
    .group_by("minute")
)
