"""What a person does to a bucket in the console of its provider."""

import boto3

from storage.blobs.s3_place import S3Place


def make_folder(place: S3Place, name: str) -> None:
    """Make a folder as consoles do: an empty object whose key ends with a slash."""
    put_raw(place, f"{name}/", b"")


def put_raw(place: S3Place, key: str, content: bytes) -> None:
    """Put an object under any key, also one that no client of ours can name."""
    client = boto3.client("s3", endpoint_url=place.endpoint)
    client.put_object(Bucket=place.bucket, Key=f"{place.prefix}/{key}", Body=content)
    client.close()
