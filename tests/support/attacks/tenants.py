"""What is another tenant's, in each route."""

from collections.abc import Mapping

from tests.support.attacks import Attack, call
from tests.support.attacks.pictures import form, png

ATTACKS: Mapping[str, Attack] = {
    "show_anothers": call("404 not_found", "GET /v1/uploads/@BOB_ID@"),
    "wait_for_anothers": call("404 not_found", "GET /v1/uploads/@BOB_ID@?wait=30"),
    "wait_for_nobodys": call("404 not_found", "GET /v1/uploads/00000000-0000-4000-8000-000000000000?wait=30"),
    "show_anothers_fields": call("400 bad_request", "GET /v1/uploads/@BOB_ID@?fields=metadata"),
    "show_anothers_etag": call("404 not_found", "GET /v1/uploads/@BOB_ID@", If_None_Match="*"),
    "delete_anothers": call("404 not_found", "DELETE /v1/uploads/@BOB_ID@"),
    "delete_anothers_original": call("404 not_found", "DELETE /v1/uploads/@BOB_ID@?original=1"),
    "save_anothers_original": call("404 not_found", "GET /v1/uploads/@BOB_ID@/original"),
    "save_a_range_of_anothers": call("404 not_found", "GET /v1/uploads/@BOB_ID@/original", Range="bytes=0-9"),
    "put_over_anothers": call(
        "403 forbidden", "PUT /v1/originals/@BOB_PATH@", body=png(), Content_Type="image/png"
    ),
    "put_over_anothers_by_a_token": call(
        "403 forbidden", "PUT /v1/originals/@BOB_PATH@", "@TOKEN@", body=png(), Content_Type="image/png"
    ),
    "put_into_anothers_folder": call(
        "403 forbidden", "PUT /v1/originals/bob/new.png", body=png(), Content_Type="image/png"
    ),
    "put_into_no_folder": call(
        "403 forbidden", "PUT /v1/originals/new.png", body=png(), Content_Type="image/png"
    ),
    "put_into_a_folder_of_like_name": call(
        "403 forbidden", "PUT /v1/originals/alice2/new.png", body=png(), Content_Type="image/png"
    ),
    "put_through_a_link": call(
        "422 invalid_event", "PUT /v1/originals/alice/link/new.png", body=png(), Content_Type="image/png"
    ),
    "list_anothers_folder": call("200", "GET /v1/uploads?source=uploads/bob/"),
    "list_anothers_upload": call("200", "GET /v1/uploads?source=@BOB_SOURCE@"),
    "list_all": call("200", "GET /v1/uploads?limit=100"),
    "list_owners": call("400 bad_request", "GET /v1/uploads?owner=bob"),
    "list_by_anothers_cursor": call("400 bad_request", "GET /v1/uploads?limit=1&cursor=@BOB_CURSOR@"),
    "list_anothers_failures": call("200", "GET /v1/failures?source=uploads/bob/"),
    "list_dead_letters_of_others": call("200", "GET /v1/dead-letters"),
    "retry_anothers": call("202", "POST /v1/failures/retry", body=b'{"ids":["@BOB_FAILED@"]}'),
    "retry_all_of_others": call("202", "POST /v1/failures/retry", body=b'{"all":true}'),
    "discard_anothers": call("202", "POST /v1/failures/discard", body=b'{"ids":["@BOB_FAILED@", 1]}'),
    "discard_all_of_others": call("202", "POST /v1/failures/discard", body=b'{"all":true}'),
    "discard_anothers_by_code": call(
        "202", "POST /v1/failures/discard", body=b'{"code":"unsupported_format"}'
    ),
    "stats_of_all": call("403 forbidden", "GET /v1/stats"),
    "stats_history_of_all": call("403 forbidden", "GET /v1/stats?history=1"),
    "sweeps_of_all": call("403 forbidden", "GET /v1/sweeps"),
    "a_sweep_of_all": call("403 forbidden", "GET /v1/sweeps/20260101T000000Z-0123456789ab"),
    "events_about_anothers": call("200", "GET /v1/events?since=0&id=@BOB_ID@", Accept="application/json"),
    "events_since_ever": call("200", "GET /v1/events?since=0&limit=100", Accept="application/json"),
    "events_about_anothers_by_a_token": call(
        "200", "GET /v1/events?since=0&id=@BOB_ID@", "@TOKEN@", Accept="application/json"
    ),
    "token_for_anothers_folder": call("400 bad_request", "POST /v1/tokens", body=b'{"owner":"bob"}'),
    "token_for_anothers_prefix": call(
        "400 bad_request", "POST /v1/tokens", body=b'{"prefix":"uploads/bob/"}'
    ),
    "upload_for_another_by_metadata": call(
        "201", "POST /v1/uploads", body=png(), Media_Metadata='{"owner":"bob"}', Content_Type="image/png"
    ),
    "upload_for_another_by_a_field": call(
        "400 bad_request",
        "POST /v1/uploads",
        body=form(("owner", None, b"bob"), ("file", "a.png", png())),
        Content_Type="multipart/form-data; boundary=b",
    ),
    "upload_for_another_by_a_parameter": call(
        "400 bad_request", "POST /v1/uploads?owner=bob", body=png(), Content_Type="image/png"
    ),
    "upload_under_anothers_key": call(
        "201", "POST /v1/uploads", body=png(), Idempotency_Key="bobs-key", Content_Type="image/png"
    ),
    "file_of_another_unsigned": call("403 forbidden", "GET /files/@BOB_VARIANT@", None),
    "file_of_another_by_a_key": call("403 forbidden", "GET /files/@BOB_VARIANT@"),
    "file_that_is_an_original": call("404 not_found", "GET /files/@BOB_SOURCE@"),
    "catalog_as_a_file": call("404 not_found", "GET /files/catalog.db", "@FULL@"),
    "staging_as_a_file": call("404 not_found", "GET /files/staging/x", "@FULL@"),
}
