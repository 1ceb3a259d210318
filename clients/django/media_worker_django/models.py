"""What is known of each original: a row an upload, which is also the outbox of its event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.core.files.storage import Storage, default_storage
from django.db import models
from django.utils.translation import gettext_lazy as _

from media_worker_django import conf


class State(models.TextChoices):
    """Where an upload is on its way."""

    PENDING = "pending", _("waiting")
    PROCESSING = "processing", _("in work")
    READY = "ready", _("ready")
    FAILED = "failed", _("failed")
    REPLACED = "replaced", _("shown until its replacement is ready")
    DELETING = "deleting", _("being deleted")
    DELETED = "deleted", _("deleted elsewhere")


UNFINISHED = (State.PENDING, State.PROCESSING)
GOING = (State.REPLACED, State.DELETING)
"""The states of an upload whose file no row of the app names any more."""
OF_THE_PICTURE = (
    *("source_too_large", "too_many_pixels", "too_much_memory", "unsupported_format", "corrupt_image"),
    *("decode_timeout", "decoder_crashed"),
)
"""The codes of what is wrong with a picture. The others are for those who run the app and the worker."""


class Upload(models.Model):
    """An original, and what pages show of it.

    While a replacement is not ready, its row has the variants of what it `replaces`.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    source = models.CharField(_("file"), max_length=500, unique=True)
    field = models.CharField(_("field"), max_length=200)
    state = models.CharField(_("state"), max_length=12, choices=State.choices, default=State.PENDING)
    seq = models.BigIntegerField(default=0)
    recipe = models.CharField(_("recipe"), max_length=64, blank=True)
    owner = models.CharField(_("owner"), max_length=255, blank=True)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    replaces = models.UUIDField(null=True, editable=False)
    error_code = models.CharField(_("error code"), max_length=64, blank=True)
    error_message = models.TextField(_("reason"), blank=True)
    variants = models.JSONField(_("variants"), default=list, blank=True)
    srcset = models.TextField(blank=True)
    color = models.CharField(_("colour"), max_length=7, blank=True)
    thumbhash = models.CharField(max_length=40, blank=True)
    placeholder = models.TextField(blank=True)
    due = models.DateTimeField(null=True, editable=False, db_index=True)
    created = models.DateTimeField(_("created"), auto_now_add=True)
    changed = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("upload")
        verbose_name_plural = _("uploads")
        ordering = ("-created",)
        indexes = (models.Index(fields=["state", "-changed"], name="media_worker_state"),)

    def __str__(self) -> str:
        return self.source

    @property
    def reason(self) -> str:
        """Why it failed, for the person who uploaded the file; empty if it did not.

        Of what is not the picture's fault it says no more: `error_message` is for those who run the app.
        """
        if not self.error_code or self.error_code in OF_THE_PICTURE:
            return self.error_message
        return str(_("The picture could not be processed."))

    @property
    def model_field(self) -> Any:
        """The field whose file it is; None where a later version of the app has dropped it."""
        label, _dot, name = self.field.rpartition(".")
        try:
            return apps.get_model(label)._meta.get_field(name)
        except (LookupError, ValueError, FieldDoesNotExist):
            return None

    @property
    def storage(self) -> Storage:
        """That of the field whose file it is."""
        return getattr(self.model_field, "storage", default_storage)

    def url(self, key: str) -> str:
        """Where browsers find what lies under a key; links are as they are."""
        if key.startswith(("http://", "https://", "/")):
            return key
        base = conf.option("URL")
        return f"{base.rstrip('/')}/{key}" if base else self.storage.url(key)

    def variant(self, name: str) -> Mapping[str, Any] | None:
        """The variant of that name, such as `thumb`: `name key url width height bytes`."""
        return next((self._linked(one) for one in self.variants if one["name"] == name), None)

    @property
    def largest(self) -> Mapping[str, Any] | None:
        """The largest of those that a browser may choose from, else of all."""
        offered = [one for one in self.variants if one["key"] in self.srcset] or self.variants
        largest = max(offered, key=lambda one: one["width"] * one["height"], default=None)
        return None if largest is None else self._linked(largest)

    @property
    def srcset_urls(self) -> str:
        """The attribute `srcset` of an `<img>`."""
        pairs = (one.rsplit(" ", 1) for one in self.srcset.split(", ") if one)
        return ", ".join(f"{self.url(key)} {width}" for key, width in pairs)

    def _linked(self, variant: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**variant, "url": self.url(variant["url"] or variant["key"])}


class Position(models.Model):
    """How far the listener has read a stream of messages, and when it was last at work."""

    stream = models.CharField(primary_key=True, max_length=200)
    entry_id = models.CharField(max_length=64, blank=True)
    seen = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("position of the listener")
        verbose_name_plural = _("positions of the listener")

    def __str__(self) -> str:
        return f"{self.stream} {self.entry_id}"
