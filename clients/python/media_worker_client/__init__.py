"""A client of media-worker: sends uploads to it, and tells what becomes of them."""

from media_worker_client.async_client import AsyncMediaClient, AsyncOutbox
from media_worker_client.async_http_client import AsyncHttpMediaClient
from media_worker_client.client import MediaClient, Outbox
from media_worker_client.cursors import Cursor, FileCursor, MemoryCursor, MemorySeqs, SeqStore
from media_worker_client.errors import MediaError, MediaTimeout
from media_worker_client.events import upload_id
from media_worker_client.http_client import HttpMediaClient
from media_worker_client.messages import Failure, Message, Upload, Variant

__all__ = [
    "AsyncHttpMediaClient",
    "AsyncMediaClient",
    "AsyncOutbox",
    "Cursor",
    "Failure",
    "FileCursor",
    "HttpMediaClient",
    "MediaClient",
    "MediaError",
    "MediaTimeout",
    "MemoryCursor",
    "MemorySeqs",
    "Message",
    "Outbox",
    "SeqStore",
    "Upload",
    "Variant",
    "upload_id",
]
