"""Forms that are bombs, or none."""

from collections.abc import Mapping

from tests.support.attacks import Attack, call
from tests.support.attacks.pictures import form, png

_USUAL = "multipart/form-data; boundary=b"
_FILE = ("file", "a.png", png())


def _sent(
    body: bytes, kind: str = _USUAL, answer: str = "400 bad_request", *, chunked: bool = False
) -> Attack:
    return call(answer, "POST /v1/uploads", body=body, Content_Type=kind, chunked=chunked)


def _part(head: bytes, content: bytes = b"x") -> bytes:
    return b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


_END = b"--b--\r\n"
_NESTED = form(("file", "a.png", png()), boundary="c")

ATTACKS: Mapping[str, Attack] = {
    "form_without_boundary": _sent(form(_FILE), "multipart/form-data"),
    "form_with_an_empty_boundary": _sent(form(_FILE), "multipart/form-data; boundary="),
    "form_with_another_boundary": _sent(form(_FILE), "multipart/form-data; boundary=c"),
    "form_with_a_long_boundary": _sent(form(_FILE), "multipart/form-data; boundary=" + "b" * 71),
    "form_with_a_huge_boundary": _sent(form(_FILE), "multipart/form-data; boundary=" + "b" * 20_000),
    "form_with_two_boundaries": _sent(form(_FILE), "multipart/form-data; boundary=c; boundary=b", "201"),
    "form_with_a_boundary_of_spaces": _sent(form(_FILE), 'multipart/form-data; boundary="   "'),
    "form_with_a_boundary_in_latin_1": _sent(form(_FILE), "multipart/form-data; boundary=\xfc"),
    "form_with_parameters": _sent(form(_FILE), "multipart/form-data" + "; a=b" * 5000),
    "form_with_continued_parameters": _sent(
        form(_FILE), "multipart/form-data; " + "; ".join(f"boundary*{at}=b" for at in range(500))
    ),
    "form_of_nothing": _sent(b""),
    "form_of_no_parts": _sent(_END),
    "form_of_spaces": _sent(b"\r\n" * 5000),
    "form_of_a_preamble": _sent(b"x" * 60_000 + form(_FILE)),
    "form_of_an_epilogue": _sent(form(_FILE) + b"x" * 70_000),
    "form_without_end": _sent(form(_FILE)[:-6]),
    "form_cut_in_a_head": _sent(b'--b\r\nContent-Disposition: form-data; name="fi'),
    "form_cut_in_the_file": _sent(form(_FILE)[:120]),
    "form_of_many_parts": _sent(form(*[("recipe", None, b"default")] * 1000)),
    "form_of_many_parts_in_chunks": _sent(form(*[("recipe", None, b"default")] * 1000), chunked=True),
    "form_of_two_files": _sent(form(_FILE, _FILE)),
    "form_of_two_recipes": _sent(form(("recipe", None, b"default"), ("recipe", None, b"avatar"), _FILE)),
    "form_of_no_file": _sent(form(("recipe", None, b"default"))),
    "form_of_another_field": _sent(form(("files[]", "a.png", png()))),
    "form_of_a_field_without_name": _sent(_part(b"Content-Disposition: form-data") + _END),
    "form_of_a_field_without_head": _sent(b"--b\r\n\r\nx\r\n" + _END),
    "form_of_an_attachment": _sent(_part(b'Content-Disposition: attachment; name="file"', png()) + _END),
    "form_of_a_nested_form": _sent(
        _part(
            b'Content-Disposition: form-data; name="file"\r\nContent-Type: multipart/mixed; boundary=c',
            _NESTED,
        )
        + _END,
        answer="415 unsupported_format",
    ),
    "form_of_a_huge_head": _sent(_part(b"X-Junk: " + b"x" * 30_000) + form(_FILE)),
    "form_of_many_heads": _sent(_part(b"\r\n".join(b"X-%d: x" % at for at in range(3000))) + form(_FILE)),
    "form_of_a_head_without_colon": _sent(_part(b"Content-Disposition form-data") + _END),
    "form_of_a_head_with_nul": _sent(_part(b'Content-Disposition: form-data; name="fi\0le"', png()) + _END),
    "form_of_a_huge_name": _sent(
        _part(b'Content-Disposition: form-data; name="' + b"f" * 30_000 + b'"') + _END
    ),
    "form_of_a_huge_field": _sent(form(("metadata", None, b'{"a":"' + b"x" * 20_000 + b'"}'), _FILE)),
    "form_of_base64": _sent(
        _part(
            b'Content-Disposition: form-data; name="file"\r\nContent-Transfer-Encoding: base64',
            b"iVBORw0KGgo=",
        )
        + _END
    ),
    "form_of_gzip": _sent(
        _part(b'Content-Disposition: form-data; name="file"\r\nContent-Encoding: gzip', b"\x1f\x8b\x08")
        + _END,
        answer="415 unsupported_format",
    ),
    "form_of_bare_line_feeds": _sent(form(_FILE).replace(b"\r\n", b"\n")),
    "form_of_boundaries_like_it": _sent(
        form(("file", "a.png", b"\r\n--bb\r\n--\r\n-b\r\n" * 500)), answer="415 unsupported_format"
    ),
    "form_of_no_picture": _sent(form(("file", "a.png", b"<html>")), answer="415 unsupported_format"),
    "form_of_an_empty_file": _sent(form(("file", "a.png", b"")), answer="415 unsupported_format"),
    "form_of_a_large_file": _sent(
        form(("file", "a.png", png() + bytes(65_536))), answer="413 source_too_large"
    ),
    "form_of_a_large_file_in_chunks": _sent(
        form(("file", "a.png", png() + bytes(65_536))), answer="413 source_too_large", chunked=True
    ),
    "form_of_an_unknown_recipe_after_the_file": _sent(
        form(_FILE, ("recipe", None, b"../x")), answer="422 unknown_recipe"
    ),
    "form_of_a_recipe_that_is_no_text": _sent(form(("recipe", None, b"\xff"), _FILE)),
    "form_of_metadata_that_is_no_json": _sent(form(_FILE, ("metadata", None, b"{"))),
    "form_of_deep_metadata": _sent(
        form(_FILE, ("metadata", None, b'{"a":' * 1000 + b"1" + b"}" * 1000)), answer="422 invalid_event"
    ),
    "form_for_json": call("400 bad_request", "POST /v1/tokens", body=form(_FILE), Content_Type=_USUAL),
}
