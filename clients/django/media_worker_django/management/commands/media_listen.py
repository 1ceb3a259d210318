"""`manage.py media_listen`: the service beside the web server that receives what became of uploads."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, close_old_connections, connections
from media_worker_client import Message

from media_worker_django import announcing, conf
from media_worker_django.checks import check_folder
from media_worker_django.receiving import DatabaseCursor, pending_ids, receive

logger = logging.getLogger("media_worker_django")
_EVERY_S = 5.0
_PAUSE_S = 1.0


class Command(BaseCommand):
    help = "Receives what became of uploads, and sends again what was not answered, until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--group", help="share the messages with other listeners of this name")
        parser.add_argument("--consumer", help="the name of this one among them, if it is to stay the same")

    def handle(self, *_: Any, group: str | None, consumer: str | None, **__: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        cursor = DatabaseCursor(conf.option("EVENTS"))
        again = threading.Thread(target=_send_again, args=(cursor, stop), daemon=True)
        again.start()
        for warning in check_folder():
            logger.warning("%s %s", warning.msg, warning.hint)
        self.stdout.write(f"Listening to {conf.option('EVENTS')}.")
        self.stdout.flush()
        where: dict[str, Any] = {"group": group, "consumer": consumer} if group else {"cursor": cursor}
        try:
            while not stop.is_set():
                try:
                    conf.client().listen(_handle, pending=pending_ids, stop=stop, **where)
                except Error:
                    logger.exception("The place in the stream could not be kept; the listener begins anew")
                    close_old_connections()
                    stop.wait(_PAUSE_S)
        finally:
            stop.set()
            again.join(10)


def _handle(message: Message) -> None:
    try:
        receive(message)
    except Error:
        close_old_connections()
        raise  # the client tries the message again


def _send_again(cursor: DatabaseCursor, stop: threading.Event) -> None:
    """Say that somebody listens, and send what is due, every few seconds; at first what nobody announced."""
    is_first = True
    while True:
        try:
            close_old_connections()
            cursor.touch()
            announcing.send_due()
            if is_first:  # last, for a table that is not there yet must hold up nothing
                announcing.announce_missing()
                is_first = False
        except Exception:  # such as of a database that is away, or busy
            logger.exception("What is due could not be sent; it is tried again")
        if stop.wait(_EVERY_S):
            break
    connections.close_all()
