"""What indexes stand on that is no column: parts of statements that databases say in different words."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Integer, String, func, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from storage.keys import owner_of_source


class owner_of(FunctionElement[str]):  # noqa: N801 (a function of SQL)
    """The owner of an upload by its columns `owner` and `source`: rows need none that knew no owners.

    With the column `account` before them it is the account of the upload.
    """

    type = String()
    inherit_cache = True


@compiles(owner_of)
def _owner_of(element: owner_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    *named, source = (compiler.process(part, **options) for part in element.clauses)
    below = f"substr({source}, 9)"  # behind `uploads/`
    return f"coalesce({', '.join(named)}, substr({source}, 9, max(instr({below}, '/') - 1, 0)), '')"


def effective_owner(owner: str | None, source: str | None) -> str:
    """The same of a row that was read."""
    return owner_of_source(source) if owner is None else owner


def effective_account(row: Mapping[str, Any]) -> str:
    """Whose account a row that was read is of."""
    account: str | None = row["account"]
    return effective_owner(row["owner"], row["source"]) if account is None else account


class upload_of(FunctionElement[str]):  # noqa: N801 (a function of SQL)
    """The id of the upload that a message's body is about; what is no id where it is about none.

    Bodies begin with `seq`, `kind` and `id`: nothing has to be parsed, and none is so damaged that it fails.
    """

    type = String()
    inherit_cache = True


@compiles(upload_of)
def _upload_of(element: upload_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    body = compiler.process(element.clauses, **options)
    return f'substr({body}, instr(substr({body}, 1, 40), \',"id":"\') + 7, 36)'


class place_of(FunctionElement[int]):  # noqa: N801 (a function of SQL)
    """Where in a text another one begins, from 1; 0: nowhere."""

    type = Integer()
    inherit_cache = True


@compiles(place_of)
def _place_of(element: place_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    return f"instr({compiler.process(element.clauses, **options)})"


def first_letter(body: ColumnElement[str], field: str) -> ColumnElement[str]:
    """The first letter of a text in a message's body, a quotation mark where that is empty.

    Nothing before `metadata` contains the name of a field in quotation marks that are not escaped.
    """
    return _behind(body, f'"{field}":"', 1)


def has_text(body: ColumnElement[str], field: str, value: str) -> ColumnElement[bool]:
    """Whether a field before `metadata` in a message's body is that text, which is written as JSON."""
    return _behind(body, f'"{field}":', len(value)) == value


def _behind(body: ColumnElement[str], before: str, length: int) -> ColumnElement[str]:
    """So many letters of a text behind the first place where it has `before`."""
    return func.substr(body, place_of(body, literal_column(f"'{before}'")) + len(before), length)
