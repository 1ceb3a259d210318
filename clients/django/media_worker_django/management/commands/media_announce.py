"""`manage.py media_announce`: announce what nobody has announced, and what is to be tried again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from media_worker_django import announcing
from media_worker_django.models import State, Upload


class Command(BaseCommand):
    help = "Announces files of MediaFields that nobody has announced, such as those from before it was one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--failed", action="store_true", help="also have failed ones tried again")

    def handle(self, *_: Any, failed: bool, **__: Any) -> None:
        count = announcing.announce_missing()
        if failed:
            count += announcing.retry(Upload.objects.filter(state=State.FAILED))
        self.stdout.write(f"{count} files announced.")
