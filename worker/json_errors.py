"""What is wrong with bytes that are no JSON, in words for whoever has sent them."""

import orjson


def why_no_json(body: bytes, error: orjson.JSONDecodeError) -> str:
    """What is wrong and where, such as `unexpected character at line 1, column 9`."""
    if not body.strip():
        return "it is empty"
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return f"byte {wrong.start + 1} is no UTF-8"
    # What the parser had expected there is a guess after one letter.
    what = error.msg.partition(", expected")[0]
    return f"{what} at line {error.lineno}, column {error.colno}"
