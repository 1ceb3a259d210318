"""Uploads in the admin: what became of each, why not, and another try."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from media_worker_django import announcing
from media_worker_django.models import Upload
from media_worker_django.templatetags.media import preview


@admin.register(Upload)
class UploadAdmin(admin.ModelAdmin):
    """Rows are written by the field and by messages: people look, and have failed ones retried."""

    actions = ("retry",)
    list_display = ("picture", "source", "state", "reason", "changed")
    list_display_links = ("picture", "source")
    list_filter = ("state", "error_code", "field")
    search_fields = ("source", "id", "owner")
    fields = (
        "picture",
        "source",
        "used_by",
        "state",
        "reason",
        "recipe",
        "owner",
        "metadata",
        "id",
        "created",
        "changed",
    )
    readonly_fields = fields

    @admin.display(description=_("picture"))
    def picture(self, upload: Upload) -> str:
        """Its smallest variant, else what stands there."""
        return preview(upload)

    @admin.display(description=_("reason"), ordering="error_code")
    def reason(self, upload: Upload) -> str:
        """Why it failed."""
        return f"{upload.error_message} ({upload.error_code})" if upload.error_code else ""

    @admin.display(description=_("used by"))
    def used_by(self, upload: Upload) -> str:
        """The row that has the file."""
        field = upload.model_field
        if field is None:
            return ""
        row = field.model._base_manager.filter(**{field.name: upload.source}).first()
        if row is None:
            return ""
        try:
            model = field.model
            place = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
            return format_html('<a href="{}">{}</a>', reverse(place, args=[row.pk]), row)
        except NoReverseMatch:
            return str(row)

    @admin.action(description=_("Try again"), permissions=["change"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Upload]) -> None:
        """Have those tried again that failed or wait."""
        count = announcing.retry(queryset)
        text = ngettext("%d upload is tried again.", "%d uploads are tried again.", count) % count
        self.message_user(request, text, messages.SUCCESS if count else messages.WARNING)

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever has it may retry; a row that was saved as it is shown could overwrite a message's."""
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
