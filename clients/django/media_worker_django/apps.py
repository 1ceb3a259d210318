"""What Django is told of this app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MediaWorkerConfig(AppConfig):
    name = "media_worker_django"
    verbose_name = _("Media worker")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from media_worker_django import checks  # noqa: F401 (registers them)
