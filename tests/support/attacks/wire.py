"""What is hardly HTTP, or more of it than anybody needs."""

from collections.abc import Mapping

from tests.support.attacks import Attack, call, raw
from tests.support.attacks.pictures import png

_GET = b"GET /v1/limits HTTP/1.1\r\n"
_HOST = b"Host: @HOST@\r\n"
_KEY = b"Authorization: Bearer @ALICE@\r\n"
_POST = b"POST /v1/uploads HTTP/1.1\r\n" + _HOST + _KEY + b"Content-Type: image/png\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_SMUGGLED = b"GET /v1/stats HTTP/1.1\r\nHost: x\r\n\r\n"


def _said(head: bytes, answer: str = "400 bad_request", body: bytes = b"") -> Attack:
    return raw(answer, _POST + head + b"\r\n\r\n" + body)


def _headed(head: bytes, answer: str = "400 bad_request") -> Attack:
    return raw(answer, _GET + _HOST + head + b"\r\n\r\n")


LENGTHS = {
    "length_below_zero": _said(b"Content-Length: -1"),
    "length_with_plus": _said(b"Content-Length: +8", body=png()),
    "length_in_hex": _said(b"Content-Length: 0x10", body=png()),
    "length_with_point": _said(b"Content-Length: 8.0", body=png()),
    "length_empty": _said(b"Content-Length: "),
    "length_as_list": _said(b"Content-Length: 8, 8", body=png()),
    "length_twice_the_same": _said(b"Content-Length: 8\r\nContent-Length: 8", body=png()),
    "length_twice_different": _said(b"Content-Length: 8\r\nContent-Length: 80", body=png()),
    "length_beyond_64_bits": _said(b"Content-Length: 99999999999999999999999"),
    "length_huge": _said(b"Content-Length: 9000000000000000000", "413 source_too_large"),
    "length_in_other_digits": _said("Content-Length: ٨".encode()),
    "length_and_chunks": _said(
        b"Content-Length: 8\r\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + _SMUGGLED
    ),
    "chunks_and_length": _said(
        b"Transfer-Encoding: chunked\r\nContent-Length: 8", body=b"0\r\n\r\n" + _SMUGGLED
    ),
    "length_too_long": raw("none", _POST + b"Content-Length: 5000\r\n\r\n" + png(), then_leaves=True),
}
ENCODINGS = {
    "transfer_junk": _said(b"Transfer-Encoding: xchunked", "501 bad_request", b"0\r\n\r\n"),
    "transfer_gzip": _said(b"Transfer-Encoding: gzip, chunked", "501 bad_request", b"0\r\n\r\n"),
    "transfer_identity": _said(b"Transfer-Encoding: identity", "501 bad_request"),
    "transfer_twice": _said(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "transfer_with_tab": _said(b"Transfer-Encoding:\tchunked;x", "501 bad_request", b"0\r\n\r\n"),
    "transfer_of_http_1_0": raw("501 bad_request", _CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n"),
}
CHUNKS = {
    f"chunk_{name}": raw(answer, _CHUNKED + body)
    for name, (answer, body) in {
        "below_zero": ("400 bad_request", b"-1\r\nx\r\n0\r\n\r\n"),
        "beyond_64_bits": ("400 bad_request", b"fffffffffffffffffff\r\n"),
        "no_hex": ("400 bad_request", b"zz\r\n"),
        "with_prefix": ("400 bad_request", b"0x5\r\nabcde\r\n0\r\n\r\n"),
        "too_long": ("400 bad_request", b"2\r\nabcdef\r\n0\r\n\r\n"),
        "extended": ("400 bad_request", b"1;" + b"x=y;" * 20_000 + b"\r\n"),
        "tiny": ("400 bad_request", (b"1;" + b"e" * 60 + b"\r\nx\r\n") * 8000),
        "none": ("415 unsupported_format", b"0\r\n\r\n"),
        "trailing": ("400 bad_request", b"0\r\n" + b"X-Junk: x\r\n" * 50_000),
    }.items()
}
_NOT_HTTP = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    "nul": bytes(100) + b"\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
    "smtp": b"EHLO x\r\n\r\n",
    "proxy_protocol": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + _GET + _HOST + b"\r\n",
    "no_version": b"GET /v1/limits HTTP\r\nHost: x\r\n\r\n",
    "lower_case_version": b"GET /v1/limits http/1.1\r\nHost: x\r\n\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "method_of_junk": b"G\0T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "method_in_lower_case": b"get /v1/limits HTTP/1.1\r\nHost: x\r\n\r\n",
    "method_unknown": b"FOO /v1/limits HTTP/1.1\r\nHost: x\r\n\r\n",
    "target_with_space": b"GET /v1/ limits HTTP/1.1\r\nHost: x\r\n\r\n",
    "target_with_nul": b"GET /v1/\0limits HTTP/1.1\r\nHost: x\r\n\r\n",
    "header_without_colon": _GET + _HOST + b"Junk\r\n\r\n",
    "header_with_space_before_colon": _GET + _HOST + b"X-Junk : x\r\n\r\n",
    "header_with_nul": _GET + _HOST + b"X-Junk: a\0b\r\n\r\n",
    "header_without_name": _GET + _HOST + b": x\r\n\r\n",
    "header_continued": _GET + _HOST + b"X-Junk: a\r\n b\r\n\r\n",
    "header_with_bare_return": _GET + _HOST + b"X-Junk: a\rX-Injected: yes\r\n\r\n",
    "header_first_continued": _GET + b" Host: x\r\n\r\n",
}
NOT_HTTP = {f"wire_{name}": raw("400 bad_request", whole) for name, whole in _NOT_HTTP.items()}
VERSIONS = {
    "version_0_9": raw("505 bad_request", b"GET /v1/limits\r\n\r\n"),
    "version_2": raw("505 bad_request", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "version_1_2": raw("400 bad_request", b"GET /v1/limits HTTP/1.2\r\n" + _HOST + b"\r\n"),
    "version_3": raw("400 bad_request", b"GET /v1/limits HTTP/3.0\r\n" + _HOST + b"\r\n"),
}
HOSTS = {
    "host_missing": raw("400 bad_request", _GET + b"\r\n"),
    "host_twice": _headed(b"Host: evil.example"),
    "host_of_a_url": raw("400 bad_request", _GET + b"Host: http://evil.example/\r\n\r\n"),
    "host_with_user": raw("400 bad_request", _GET + b"Host: a@evil.example\r\n\r\n"),
    "host_with_path": raw("400 bad_request", _GET + b"Host: 127.0.0.1/../x\r\n\r\n"),
    "host_with_spaces": raw("400 bad_request", _GET + b"Host: a b\r\n\r\n"),
    "host_with_markup": raw("400 bad_request", _GET + b"Host: <script>\r\n\r\n"),
    "host_in_latin_1": raw("400 bad_request", _GET + b"Host: \xfc\r\n\r\n"),
    # Links have MEDIA_HTTP_URL, or no host at all: what a client says here is in none.
    "host_of_elsewhere": call("200", "GET /v1/uploads?limit=1", Host="evil.example"),
    "host_forwarded": call("200", "GET /v1/uploads?limit=1", X_Forwarded_Host="evil.example"),
    "host_forwarded_for_an_upload": call(
        "201",
        "POST /v1/uploads",
        body=png(),
        Content_Type="image/png",
        Host="evil.example",
        X_Forwarded_Host="evil.example",
        Forwarded="host=evil.example;proto=https",
    ),
}
TARGETS = {
    f"target_{name}": call(answer, f"GET {target}")
    for name, (answer, target) in {
        "doubled_slash": ("404 not_found", "//v1//uploads"),
        "dot": ("404 not_found", "/./v1/uploads"),
        "dots": ("404 not_found", "/v1/x/../uploads"),
        "parameter": ("404 not_found", "/v1/uploads;x=1"),
        "slash_at_the_end": ("404 not_found", "/v1/uploads/"),
        "capitals": ("404 not_found", "/V1/Uploads"),
        "slash_encoded": ("403 forbidden", "/v1%2fstats"),
        "nul_at_the_end": ("400 bad_request", "/v1/uploads%00"),
        "newline_at_the_end": ("400 bad_request", "/v1/uploads%0a"),
        "escape_cut": ("404 not_found", "/v1/uploads%2"),
        "escape_of_junk": ("404 not_found", "/v1/uploads%zz"),
        "backslash": ("404 not_found", "/v1\\uploads"),
        "star": ("400 bad_request", "*"),
        "nothing_but_a_name": ("400 bad_request", "v1/uploads"),
        "url_of_elsewhere": ("400 bad_request", "http://evil.example/v1/uploads"),
        "url_of_a_file": ("400 bad_request", "file:///etc/passwd"),
        "url_of_metadata": ("400 bad_request", "http://169.254.169.254/latest/meta-data/"),
        "long": ("414 bad_request", "/v1/" + "a" * 20_000),
        "query_long": ("414 bad_request", "/v1/uploads?source=" + "a" * 20_000),
        "query_of_many": ("400 bad_request", "/v1/uploads?" + "a=1&" * 3000),
        "query_of_junk": ("400 bad_request", "/v1/uploads?&&&===&%00=%ff&[]=1"),
        "documentation": ("404 not_found", "/docs"),
        "environment": ("404 not_found", "/.env"),
        "git": ("404 not_found", "/.git/config"),
        "php": ("404 not_found", "/index.php?s=/index/\\think\\app/invokefunction"),
    }.items()
}
METHODS = {
    **{
        f"method_{method.lower()}": call("405 bad_request", f"{method} /v1/uploads")
        for method in ("PATCH", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "LOCK")
    },
    "method_connect": raw("501 bad_request", b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n"),
    "method_post_of_a_file": call("405 bad_request", "POST /files/@ALICE_VARIANT@?@SIGNED@", None),
    "method_delete_of_a_file": call("405 bad_request", "DELETE /files/@ALICE_VARIANT@?@SIGNED@", "@FULL@"),
    "method_put_of_a_file": call("405 bad_request", "PUT /files/@ALICE_VARIANT@", "@FULL@", body=png()),
}
HEADS = {
    "headers_too_many": _headed(b"\r\n".join(b"X-%d: x" % at for at in range(300)), "431 bad_request"),
    "headers_too_large": _headed(b"X-Junk: " + b"x" * 70_000, "431 bad_request"),
    "cookies": _headed(b"Cookie: " + b"a=b; " * 1500, "200"),
    "cookie_of_markup": _headed(b"Cookie: <script>=\xff; $Version=1", "200"),
    "languages": _headed(b"Accept-Language: " + b"../../x," * 1000, "200"),
    "shellshock": _headed(b"User-Agent: () { :;}; /bin/id", "200"),
    "log4shell": _headed(b"User-Agent: ${jndi:ldap://127.0.0.1:1/x}", "200"),
    "escapes": _headed(b"User-Agent: \x1b]0;x\x07\x1b[2J", "400 bad_request"),
    "traceparent_of_junk": _headed(
        b"Traceparent: 00-" + b"z" * 32 + b"-" + b"z" * 16 + b"-01\r\nTracestate: " + b"x" * 900, "200"
    ),
}
_ACCEPTED = (
    "gzip;q=NaN",
    "gzip;q=1e999",
    "*" * 500,
    ",".join(["gzip;q=0.1"] * 500),
    "\xff",
    "gzip;q=",
    "br;q=2, ;;,=",
)
ACCEPTS = {
    f"accept_encoding_{at}": _headed(b"Accept-Encoding: " + value.encode("latin-1"), "200")
    for at, value in enumerate(_ACCEPTED)
} | {
    "accept_of_junk": call("200", "GET /v1/events?since=0", Accept=";;,,q=x," * 500 + "application/json"),
    "accept_of_a_bomb": call("200", "GET /v1/uploads", Accept="text/html;level=1;" * 1000),
}
_RANGES = {
    "many": ("200", "bytes=" + ",".join(f"{at}-" for at in range(1000))),
    "overlapping": ("200", "bytes=" + ",".join(["0-"] * 1300)),
    "backwards": ("200", "bytes=9-1"),
    "huge": ("416 bad_request", "bytes=99999999999999-"),
    "beyond_64_bits": ("200", "bytes=0-" + "9" * 5000),
    "below_zero": ("200", "bytes=--1"),
    "of_other_units": ("200", "lines=0-1"),
    "of_nothing": ("416 bad_request", "bytes=-0"),
    "of_junk": ("200", "bytes=a-b"),
    "of_other_digits": ("200", "bytes=\xb2-\xb3"),
    "of_the_last_of_all": ("206", "bytes=-999999999999"),
}
RANGES = {
    f"range_{name}": call(answer, "GET /files/@ALICE_VARIANT@?@SIGNED@", None, Range=wanted)
    for name, (answer, wanted) in _RANGES.items()
} | {
    "range_twice": call(
        "200", "GET /files/@ALICE_VARIANT@?@SIGNED@", None, Range="bytes=0-1", more=[("Range", "bytes=2-3")]
    ),
    "tags_of_a_bomb": call(
        "200", "GET /files/@ALICE_VARIANT@?@SIGNED@", None, If_None_Match='"' + '","' * 5000
    ),
    "tags_of_junk": call("200", "GET /v1/uploads/@ALICE_ID@", If_None_Match="W/" * 5000),
    "if_range_of_junk": call(
        "200", "GET /files/@ALICE_VARIANT@?@SIGNED@", None, Range="bytes=0-1", If_Range="Thu, 99 Foo 1"
    ),
}
ORIGINS = {
    "origin_of_elsewhere": call("200", "GET /v1/uploads?limit=1", Origin="https://evil.example"),
    "origin_null": call("200", "GET /v1/uploads?limit=1", Origin="null"),
    "origin_of_elsewhere_without_key": call(
        "401 unauthorized", "GET /v1/uploads", None, Origin="https://evil.example"
    ),
    "origin_preflight": call(
        "405 bad_request",
        "OPTIONS /v1/uploads",
        None,
        Origin="https://evil.example",
        Access_Control_Request_Method="POST",
    ),
    "origin_form_of_a_page": call(
        "401 unauthorized",
        "POST /v1/uploads",
        None,
        body=b"a=b",
        Content_Type="text/plain",
        Origin="https://evil.example",
        Sec_Fetch_Site="cross-site",
    ),
}
INJECTED = {
    "injected_into_source": call(
        "400 bad_request", "GET /v1/uploads?source=a%0d%0aX-Injected:%20yes%0d%0a%0d%0a"
    ),
    "injected_into_link": call("400 bad_request", "GET /v1/uploads?limit=1&recipe=a%0d%0aX-Injected:%20yes"),
    "injected_into_unknown_parameter": call("400 bad_request", "GET /v1/uploads?a%0d%0aX-Injected:%20yes=1"),
    "injected_into_allow": call("400 bad_request", "PATCH /v1/x%0d%0aX-Injected:%20yes"),
    "injected_into_field": call("400 bad_request", "GET /v1/uploads?fields=id,a%0d%0aX-Injected:%20yes"),
    "injected_into_put": call(
        "400 bad_request",
        "PUT /v1/originals/alice/a%0d%0aX-Injected:%20yes.png",
        body=png(),
        Content_Type="image/png",
    ),
    "markup_in_unknown_parameter": call(
        "400 bad_request", "GET /v1/uploads?%3Cscript%3Ealert(1)%3C/script%3E=1"
    ),
    "log_line_forged": call("400 bad_request", "GET /v1/%0a%7b%22event%22:%22forged%22%7d"),
}

_UPGRADE = b"GET /v1/events/ws HTTP/1.1\r\n" + _HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
_NONCE = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
_VERSION = b"Sec-WebSocket-Version: 13\r\n"
UPGRADES = {
    "upgrade_without_upgrade": call("426 bad_request", "GET /v1/events/ws"),
    "upgrade_without_nonce": raw("400", _UPGRADE + _KEY + _VERSION + b"\r\n"),
    "upgrade_with_a_bad_nonce": raw("400", _UPGRADE + _KEY + _VERSION + b"Sec-WebSocket-Key: x\r\n\r\n"),
    "upgrade_with_a_bad_version": raw("400", _UPGRADE + _KEY + _NONCE + b"Sec-WebSocket-Version: 99\r\n\r\n"),
    "upgrade_with_a_body": raw(
        "400 bad_request", _UPGRADE + _KEY + _NONCE + _VERSION + b"Content-Length: 5\r\n\r\nhello"
    ),
    "upgrade_elsewhere": raw(
        "403", _UPGRADE.replace(b"/v1/events/ws", b"/v1/uploads") + _KEY + _NONCE + _VERSION + b"\r\n"
    ),
    "upgrade_to_http_2": raw(
        "200",
        _GET
        + _HOST
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    ),
    # What is refused is told in the frame that closes: a page cannot read the status of a handshake.
    **{
        f"websocket_{name}": raw(
            f"101 {told}",
            _UPGRADE.replace(b" HTTP", query + b" HTTP") + head + _NONCE + _VERSION + b"\r\n",
            then=then,
        )
        for name, (told, query, head, then) in {
            "without_key": ("unauthorized", b"", b"", b""),
            "of_another_origin": ("forbidden", b"", _KEY + b"Origin: https://evil.example\r\n", b""),
            "of_the_origin_null": ("forbidden", b"", _KEY + b"Origin: null\r\n", b""),
            "of_an_unknown_parameter": ("bad_request", b"?owner=bob", _KEY, b""),
            "since_junk": ("bad_request", b"?since=../../x", _KEY, b""),
            "with_a_key_as_protocol": (
                "unauthorized",
                b"",
                b"Sec-WebSocket-Protocol: media-token.@ALICE@\r\n",
                b"",
            ),
            "with_a_token_about_all": (
                "forbidden",
                b"",
                b"Sec-WebSocket-Protocol: media-events, media-token.@TOKEN@\r\n",
                b"",
            ),
            "with_an_unmasked_frame": ("1002", b"", _KEY, b"\x81\x05hello"),
            "with_a_huge_frame": ("1009", b"", _KEY, b"\x82\xff" + bytes(4) + b"\x7f" * 4 + bytes(4)),
            "with_reserved_bits": ("1002", b"", _KEY, b"\xff\x80" + bytes(4)),
        }.items()
    },
}

ATTACKS: Mapping[str, Attack] = {
    **LENGTHS,
    **ENCODINGS,
    **CHUNKS,
    **NOT_HTTP,
    **VERSIONS,
    **HOSTS,
    **TARGETS,
    **METHODS,
    **HEADS,
    **ACCEPTS,
    **RANGES,
    **ORIGINS,
    **INJECTED,
    **UPGRADES,
}
