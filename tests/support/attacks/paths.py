"""Traversal in every parameter."""

import json
from collections.abc import Mapping

from tests.support.attacks import Attack, call
from tests.support.attacks.pictures import form, png
from tests.support.attacks.spellings import IN_A_PATH, IN_TEXT

_CONTROL = ("nul", "newline")  # a path with such characters is none
_ONE_SEGMENT = ("encoded_twice", "backslashes", "overlong_utf8", "fullwidth")
# To a file system of Linux these are names like others: they lie where they are said to lie.
_NAMES = ("encoded_twice", "backslashes", "fullwidth", "two_dot_leaders", "semicolons")


def _not_there(name: str) -> str:
    return "400 bad_request" if name in _CONTROL else "404 not_found"


def _upload(name: str) -> str:
    """What is one segment is no id; what is several is no route."""
    return "400 bad_request" if name in (*_CONTROL, *_ONE_SEGMENT) else "404 not_found"


def _put(name: str) -> str:
    if name in _CONTROL:
        return "400 bad_request"
    return "201" if name in _NAMES else "422 invalid_event"


FILES = {
    f"files_{name}": call(_not_there(name), f"GET /files/variants/{spelling}?@SIGNED@", None)
    for name, spelling in IN_A_PATH.items()
}
FILES_DEEP = {
    f"file_name_{name}": call(_not_there(name), f"GET /files/variants/ab/cd/{spelling}", None)
    for name, spelling in IN_A_PATH.items()
}
ORIGINALS = {
    f"put_{name}": call(
        _put(name), f"PUT /v1/originals/{spelling}", "@FULL@", body=png(), Content_Type="image/png"
    )
    for name, spelling in IN_A_PATH.items()
}
BOUND = {
    f"put_out_of_ones_own_folder_{name}": call(
        _put(name),
        f"PUT /v1/originals/alice/{spelling}",
        body=png(),
        Content_Type="image/png",
    )
    for name, spelling in IN_A_PATH.items()
}
IDS = {
    f"id_{name}": call(_upload(name), f"GET /v1/uploads/{spelling}") for name, spelling in IN_A_PATH.items()
}
DELETED = {
    f"delete_{name}": call(_upload(name), f"DELETE /v1/uploads/{spelling}?original=1", "@FULL@")
    for name, spelling in IN_A_PATH.items()
}
KEPT = {
    f"original_{name}": call(_upload(name), f"GET /v1/uploads/{spelling}/original", "@FULL@")
    for name, spelling in IN_A_PATH.items()
}
PLANS = {
    f"plan_{name}": call(_not_there(name), f"GET /v1/sweeps/{spelling}", "@FULL@")
    for name, spelling in IN_A_PATH.items()
}
SOURCES = {
    f"source_{name}": call(
        "400 bad_request" if name in (*_CONTROL, "long") else "200",
        f"GET /v1/uploads?source={spelling}",
    )
    for name, spelling in IN_A_PATH.items()
}
CURSORS = {
    f"cursor_{name}": call("400 bad_request", f"GET /v1/uploads?cursor={spelling}")
    for name, spelling in IN_A_PATH.items()
}
MESSAGES = {
    f"events_id_{name}": call("400 bad_request", f"GET /v1/events?id={spelling}", Accept="application/json")
    for name, spelling in IN_A_PATH.items()
}
LAST_IDS = {
    f"last_event_id_{name}": call(
        "400 bad_request", "GET /v1/events", Last_Event_ID=text, Accept="application/json"
    )
    for name, text in IN_TEXT.items()
}
RECIPES = {
    f"recipe_{name}": call(
        "422 unknown_recipe",
        "POST /v1/uploads",
        body=png(),
        Content_Type="image/png",
        Media_Recipe=text,
    )
    for name, text in IN_TEXT.items()
}
KEYS = {
    f"idempotency_key_{name}": call(
        "201", "POST /v1/uploads", body=png(), Content_Type="image/png", Idempotency_Key=text
    )
    for name, text in IN_TEXT.items()
}
METADATA = {
    f"metadata_{name}": call(
        "201",
        "POST /v1/uploads",
        body=png(),
        Content_Type="image/png",
        Media_Metadata=json.dumps({"source": text, "owner": "bob"}),
    )
    for name, text in IN_TEXT.items()
}
FILE_NAMES = {
    f"filename_{name}": call(
        "201",
        "POST /v1/uploads",
        body=form(("file", text, png())),
        Content_Type="multipart/form-data; boundary=b",
    )
    for name, text in IN_TEXT.items()
}

ATTACKS: Mapping[str, Attack] = {
    **FILES,
    **FILES_DEEP,
    **ORIGINALS,
    **BOUND,
    **IDS,
    **DELETED,
    **KEPT,
    **PLANS,
    **SOURCES,
    **CURSORS,
    **MESSAGES,
    **LAST_IDS,
    **RECIPES,
    **KEYS,
    **METADATA,
    **FILE_NAMES,
}
