"""The client of S3: what it is told, and what it can sign."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from urllib.parse import quote, urlencode

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from storage.blobs.s3_errors import unavailable, unfit
from storage.blobs.s3_place import S3Place

_TRIES_AGAIN, _TRIES_S = 2, 10.0  # after the first try, and for how long; the client makes them
_TIMEOUT_S, _CONNECT_S = 30.0, 5.0
SIGNED_FOR = timedelta(minutes=1)


def open_store(
    place: S3Place,
    tries_again: int = _TRIES_AGAIN,
    timeout_s: float = _TIMEOUT_S,
) -> S3Store:
    """The client of one place. Raises: BlobsUnfit."""
    in_the_host = place.addressing == "auto" and not place.endpoint and "." not in place.bucket
    try:
        return _store_of(place, in_the_host, tries_again, timeout_s)
    except (BaseError, ValueError) as error:
        raise unfit(place, error) from error


def _store_of(place: S3Place, in_the_host: bool, tries_again: int, timeout_s: float) -> S3Store:
    return S3Store(
        place.bucket,
        prefix=place.prefix or None,
        # By this name it counts more than each AWS_ENDPOINT* of the environment, which the client also reads.
        config={"aws_endpoint_url_s3": place.endpoint} if place.endpoint else None,
        virtual_hosted_style_request=in_the_host,
        checksum_algorithm="SHA256",
        disable_bulk_delete=True,  # the client dies of an answer to it that names another key
        client_options={
            "allow_http": place.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=timeout_s),
            "connect_timeout": timedelta(seconds=min(_CONNECT_S, timeout_s)),
        },
        retry_config={"max_retries": tries_again, "retry_timeout": timedelta(seconds=_TRIES_S)},
    )


def sign_query(place: S3Place, query: Mapping[str, str]) -> str:
    """A URL that asks the bucket itself, with that query. Raises: BlobsUnavailable."""
    # The client signs URLs of objects alone, but takes the bucket's name as it is. So the query stands behind
    # that name, and its last parameter, which means nothing to servers, takes the object's.
    asked = urlencode({**query, "x-id": ""}, quote_via=quote)
    bucket = replace(place, bucket=f"{place.bucket}?{asked}", prefix="", addressing="path")
    try:
        return obstore.sign(open_store(bucket), "GET", "_", SIGNED_FOR)
    except BaseError as error:  # no credentials
        raise unavailable("the bucket", error, "") from error
