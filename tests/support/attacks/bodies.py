"""Bodies that lie, bombs of JSON, and pictures that are none."""

import gzip
from collections.abc import Mapping

from tests.support.attacks import Attack, call
from tests.support.attacks.pictures import png

MOST = 65_536  # bytes of an upload, as the attacked server has it
_HTML = b"<html><script>alert(1)</script></html>"
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>'

_JSON = {
    "no_object": b"[]",
    "null": b"null",
    "nothing": b"",
    "deep": b'{"metadata":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
    "deep_lists": b"[" * 30_000,
    "long": b'{"recipe":"' + b"a" * 70_000 + b'"}',
    "number_without_end": b'{"max_bytes":' + b"9" * 5000 + b"}",
    "infinite_number": b'{"max_bytes":1e999}',
    "nan": b'{"max_bytes":NaN}',
    "number_below_zero": b'{"max_bytes":-1}',
    "number_with_a_point": b'{"max_bytes":1.5}',
    "true_as_a_number": b'{"count":true}',
    "text_as_a_number": b'{"count":"1"}',
    "too_long": b'{"expires_in":86401}',
    "for_ever": b'{"expires_in":9223372036854775808}',
    "unknown_member": b'{"scopes":["operate"]}',
    "prototype": b'{"__proto__":{"owner":"bob"}}',
    "pair_unpaired": b'{"recipe":"\\ud800"}',
    "latin_1": b'{"recipe":"\xe4"}',
    "utf_16": '{"count":1}'.encode("utf-16"),
    "mark_of_utf_8": b'\xef\xbb\xbf{"count":1}',
    "two_documents": b'{"count":1}{"count":2}',
    "comment": b'{"count":1/*x*/}',
    "nul": b'{"count":1}\0',
    "gzip": gzip.compress(b'{"count":1}'),
    "form": b"count=1&recipe=default",
    "xml": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "metadata_no_object": b'{"metadata":[1]}',
    "metadata_large": b'{"metadata":{"a":"' + b"x" * 5000 + b'"}}',
}
TOKENS = {
    f"json_{name}": call("400 bad_request", "POST /v1/tokens", body=body) for name, body in _JSON.items()
}
CHUNKED = {
    f"json_chunked_{name}": call("400 bad_request", "POST /v1/tokens", body=_JSON[name], chunked=True)
    for name in ("deep", "long", "gzip")
}
DUPLICATES = {
    "json_twice_the_same": call("400 bad_request", "POST /v1/tokens", body=b'{"count":1,"count":"many"}'),
    "json_unknown_recipe": call("422 unknown_recipe", "POST /v1/tokens", body=b'{"recipe":"../../x"}'),
}

_CHOICES = {
    "nothing_chosen": b"{}",
    "two_ways": b'{"all":true,"code":"corrupt_image"}',
    "all_false": b'{"all":false}',
    "all_as_text": b'{"all":"true"}',
    "unknown_code": b'{"code":"x\' OR 1=1"}',
    "no_ids": b'{"ids":[]}',
    "ids_of_a_path": b'{"ids":["../../outside/canary.txt"]}',
    "ids_below_zero": b'{"ids":[-1]}',
    "ids_too_large": b'{"ids":[99999999999999999999]}',
    "ids_true": b'{"ids":[true]}',
    "ids_nested": b'{"ids":[[[]]]}',
    "ids_too_many": b'{"ids":[' + b",".join([b"1"] * 1001) + b"]}",
}
CHOICES = {
    f"{verb}_{name}": call("400 bad_request", f"POST /v1/failures/{verb}", body=body)
    for name, body in _CHOICES.items()
    for verb in ("retry", "discard")
}

_METADATA = {
    "no_json": ("400 bad_request", "{"),
    "no_object": ("422 invalid_event", "[1]"),
    "deep": ("422 invalid_event", '{"a":' * 500 + "1" + "}" * 500),
    "large": ("422 invalid_event", '{"a":"' + "x" * 5000 + '"}'),
    "huge": ("400 bad_request", '{"a":"' + "x" * 20_000 + '"}'),
    "infinite": ("400 bad_request", '{"a":1e999}'),
    "latin_1": ("400 bad_request", '{"a":"\xe4"}'),
    "pair_unpaired": ("400 bad_request", '{"a":"\\ud800"}'),
}
METADATA = {
    f"header_metadata_{name}": call(
        answer, "POST /v1/uploads", body=png(), Content_Type="image/png", Media_Metadata=text
    )
    for name, (answer, text) in _METADATA.items()
}

_CONTENTS = {
    "nothing": b"",
    "html": _HTML,
    "svg": _SVG,
    "script": b"#!/bin/sh\nid\n",
    "pdf": b"%PDF-1.7\n",
    "postscript": b"%!PS-Adobe-3.0\n(%pipe%id) (w) file\n",
    "mvg": b"push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/x'\n",
    "playlist": b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\nconcat:file:///etc/passwd\n",
    "zip": b"PK\x03\x04" + bytes(100),
    "elf": b"\x7fELF" + bytes(100),
    "gzip": gzip.compress(png()),
    "magic_cut": b"\x89PN",
    "magic_late": b"\n" + png(),
    "html_then_picture": _HTML + png(),
}
CONTENTS = {
    f"content_{name}": call("415 unsupported_format", "POST /v1/uploads", body=body, Content_Type="image/png")
    for name, body in _CONTENTS.items()
}

POLYGLOTS = {
    # The first bytes are a picture's: whether it is one is found by the worker, in its sandbox.
    "polyglot_html": call("201", "POST /v1/uploads", body=png(_HTML), Content_Type="image/png"),
    "polyglot_zip": call(
        "201", "POST /v1/uploads", body=png() + b"PK\x05\x06" + bytes(18), Content_Type="image/png"
    ),
    "polyglot_script": call(
        "201", "POST /v1/uploads", body=b"GIF89a/*" + bytes(50) + b"*/=alert(1)", Content_Type="image/gif"
    ),
    "magic_alone": call(
        "201", "POST /v1/uploads", body=b"\xff\xd8\xff\xe0" + bytes(60), Content_Type="image/jpeg"
    ),
    "jpeg_said_of_a_png": call("201", "POST /v1/uploads", body=png(), Content_Type="image/jpeg"),
    "svg_said_of_a_png": call("201", "POST /v1/uploads", body=png(), Content_Type="image/svg+xml"),
    "type_with_junk": call("201", "POST /v1/uploads", body=png(), Content_Type='image/png; name="../../x"'),
}

_TYPES = {
    "html": "text/html",
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "nothing_known": "x",
    "mixed": "multipart/mixed; boundary=b",
    "related": "multipart/related; boundary=b",
    "slashes": "image\\png",
}
TYPES = {
    f"type_{name}": call("415 unsupported_format", "POST /v1/uploads", body=png(), Content_Type=kind)
    for name, kind in _TYPES.items()
}

_ENCODINGS = ("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "x", "aws-chunked", "*")
ENCODINGS = {
    f"encoded_{encoding.replace(', ', '_then_').replace('*', 'any')}": call(
        "415 unsupported_format",
        "POST /v1/uploads",
        body=gzip.compress(png()),
        Content_Type="image/png",
        Content_Encoding=encoding,
    )
    for encoding in _ENCODINGS
}

_BIG = png() + bytes(MOST)
LENGTHS = {
    "too_large": call("413 source_too_large", "POST /v1/uploads", body=_BIG, Content_Type="image/png"),
    "too_large_in_chunks": call(
        "413 source_too_large", "POST /v1/uploads", body=_BIG, chunked=True, Content_Type="image/png"
    ),
    "put_too_large": call(
        "413 source_too_large", "PUT /v1/originals/alice/big.png", body=_BIG, Content_Type="image/png"
    ),
    "put_too_large_in_chunks": call(
        "413 source_too_large",
        "PUT /v1/originals/alice/big.png",
        body=_BIG,
        chunked=True,
        Content_Type="image/png",
    ),
    "body_of_a_get": call("200", "GET /v1/uploads?limit=1", body=b"x" * 100),
    "body_of_a_delete": call("404 not_found", "DELETE /v1/uploads/@BOB_ID@", body=b"x" * 100),
}

_DIGESTS = {
    "wrong": ("422 digest_mismatch", "sha-256=:" + "A" * 43 + "=:"),
    "short": ("400 bad_request", "sha-256=:AAAA:"),
    "no_base64": ("400 bad_request", "sha-256=:../../x:"),
    "junk": ("400 bad_request", "sha-256"),
    "quoted": ("400 bad_request", 'sha-256="x"'),
    "md5_alone": ("201", "md5=:AAAA:"),
    "many": ("400 bad_request", "sha-256=:AAAA:," * 500),
}
DIGESTS = {
    f"digest_{name}": call(
        answer, "POST /v1/uploads", body=png(), Content_Type="image/png", Repr_Digest=digest
    )
    for name, (answer, digest) in _DIGESTS.items()
}

_KEYS = {
    "empty": ("400 bad_request", ""),
    "long": ("400 bad_request", "k" * 256),
    "very_long": ("400 bad_request", "k" * 10_000),
    "latin_1": ("400 bad_request", "\xfc"),
    "tab": ("400 bad_request", "a\tb"),
}
KEYS = {
    f"idempotency_key_{name}": call(
        answer, "POST /v1/uploads", body=png(), Content_Type="image/png", Idempotency_Key=key
    )
    for name, (answer, key) in _KEYS.items()
}

_PREFERENCES = (
    "wait=99999999999999999999",
    "wait=-1",
    "wait=1e9",
    "wait=" + "9" * 5000,
    "wait",
    ",,,;;==",
    "respond-async",
)
PREFERENCES = {
    f"prefer_{at}": call("201", "POST /v1/uploads", body=png(), Content_Type="image/png", Prefer=preference)
    for at, preference in enumerate(_PREFERENCES)
}

ATTACKS: Mapping[str, Attack] = {
    **TOKENS,
    **CHUNKED,
    **DUPLICATES,
    **CHOICES,
    **METADATA,
    **CONTENTS,
    **POLYGLOTS,
    **TYPES,
    **ENCODINGS,
    **LENGTHS,
    **DIGESTS,
    **KEYS,
    **PREFERENCES,
}
