"""What a person does to a bucket in the console of its provider."""

import boto3

from storage.blobs.s3_place import S3Place


def make_folder(place: S3Place, name: str) -> None:
    """Make a folder as consoles do: an empty object whose key ends with a slash."""
    client = boto3.client("s3", endpoint_url=place.endpoint)
    client.put_object(Bucket=place.bucket, Key=f"{place.prefix}/{name}/", Body=b"")
    client.close()
