"""`MediaField`: a FileField whose files media-worker makes variants of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.files.storage import FileSystemStorage
from django.db import connections, models
from django.db.models.fields.files import FieldFile, FileDescriptor
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor

from media_worker_django import announcing, limits
from media_worker_django.forms import MediaFormField
from media_worker_django.models import State, Upload

_UPLOADS = "uploads/"


class MediaFieldFile(FieldFile):
    """A file of a MediaField, with what is known of its variants."""

    @property
    def upload(self) -> Upload | None:
        """The row about it; None where there is no file, and where it was not announced yet.

        Until a file is saved, such as in a form that is shown again, that is the row about the one before it.
        """
        if not self or self.field.relation is None:
            return None
        if getattr(self.instance, self.field.attname) is self and self._committed:
            return getattr(self.instance, self.field.relation.name)
        name = self.name if self._committed else self.field.stored_name(self.instance)
        rows = Upload.objects.db_manager(hints={"instance": self.instance})
        return rows.filter(source=name).first() if name else None

    @property
    def state(self) -> str:
        """One of `State`; empty without a file, and of one that is not saved and takes no other's place."""
        upload = self.upload
        if upload is not None:
            return upload.state
        return State.PENDING if self and self._committed else ""

    @property
    def is_ready(self) -> bool:
        """Whether its own variants are shown."""
        return self.state == State.READY

    @property
    def is_waiting(self) -> bool:
        """Whether its variants will come, or the reason why not."""
        return self.state in (State.PENDING, State.PROCESSING)

    @property
    def error(self) -> str:
        """Why there are no variants of it, for the person who uploaded it; empty where there are."""
        upload = self.upload
        return upload.reason if upload else ""

    @property
    def variants(self) -> Mapping[str, str]:
        """The URL of each variant by its name, such as `photo.image.variants.thumb`."""
        upload = self.upload
        return {one["name"]: upload.variant(one["name"])["url"] for one in upload.variants} if upload else {}

    def save(self, name: str, content: Any, save: bool = True) -> None:
        """Write the file; it is announced once the instance is saved, also under the name that it had."""
        self.instance.__dict__[self.field.written] = True
        super().save(name, content, save)

    save.alters_data = True  # type: ignore[attr-defined]


class MediaDescriptor(FileDescriptor):
    """Forgets the row of the file that an instance had."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        super().__set__(instance, value)
        relation = self.field.relation
        if relation is not None and relation.is_cached(instance):
            relation.delete_cached_value(instance)


class UploadDescriptor(ForwardManyToOneDescriptor):
    """The row about a file; None where there is none, for no constraint demands one."""

    def __get__(self, instance: models.Model | None, cls: type | None = None) -> Any:
        if instance is None:
            return self
        if not getattr(instance, self.field.from_fields[0]):
            return None
        try:
            return super().__get__(instance, cls)
        except Upload.DoesNotExist:
            return None

    def __set__(self, instance: models.Model, value: Any) -> None:
        """Take the row that it is anyway, as `full_clean` does. Raises: AttributeError for another."""
        if value is None:
            return
        if value.source != str(getattr(instance, self.field.from_fields[0])):
            raise AttributeError(f"{self.field.name} follows from the file; assign that.")
        self.field.set_cached_value(instance, value)


class UploadRelation(models.ForeignObject):
    """From the name of a file to the row about it, without a column: for `select_related` and `filter`."""

    forward_related_accessor_class = UploadDescriptor

    def __init__(self, field_name: str) -> None:
        super().__init__(
            Upload,
            on_delete=models.DO_NOTHING,
            from_fields=[field_name],
            to_fields=["source"],
            related_name="+",
            null=True,
            blank=True,
            editable=False,
            serialize=False,
        )

    def contribute_to_class(self, cls: type[models.Model], name: str, **kwargs: Any) -> None:
        # Django gives a model with a table of its own a copy of its parent's. The column is the parent's
        # still, and queries come to it by the parent if the copy says so.
        parent = self.model if getattr(self, "mti_inherited", False) else None
        super().contribute_to_class(cls, name, private_only=True)
        if parent is not None:
            self.model = parent


class MediaField(models.FileField):
    """A FileField whose files become variants, on any page by `{% media photo.image %}`.

    `recipe` names what is made. `owner` and `metadata` are values, or functions of the instance that return
    them. Of a model with the field `image`, `image_upload` is the row of `Upload`: for
    `select_related("image_upload")` and `filter(image_upload__state="failed")`.
    """

    attr_class = MediaFieldFile
    default_validators = [limits.validate_size]
    descriptor_class = MediaDescriptor
    relation: UploadRelation | None = None

    def __init__(
        self,
        verbose_name: Any = None,
        name: str | None = None,
        upload_to: Any = "uploads/%Y/%m/",
        storage: Any = None,
        *,
        recipe: str = "",
        owner: str | Callable[[Any], object] = "",
        metadata: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("max_length", 255)
        kwargs.setdefault("db_index", True)  # whether a file is in use is asked whenever a row goes
        super().__init__(verbose_name, name, upload_to, storage, **kwargs)
        self.recipe = recipe
        self.owner = owner
        self.metadata = metadata

    def deconstruct(self) -> Any:
        """Say the options whose defaults are others than those of a FileField."""
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "max_length": self.max_length, "db_index": self.db_index}

    @property
    def label(self) -> str:
        """Its place in the project, such as `photos.Photo.image`."""
        return f"{self.model._meta.label}.{self.name}"

    @property
    def written(self) -> str:
        """Where an instance keeps that its file was written since it was announced."""
        return f"_{self.name}_written"

    @property
    def _before(self) -> str:
        """Where an instance that is being saved or deleted keeps which file its row had."""
        return f"_{self.name}_before"

    def options_for(self, instance: models.Model) -> dict[str, Any]:
        """What the event of an instance's file says beside the file."""
        owner = self.owner(instance) if callable(self.owner) else self.owner
        metadata = self.metadata(instance) if callable(self.metadata) else self.metadata
        return {"recipe": self.recipe, "owner": str(owner or ""), "metadata": dict(metadata or {})}

    def contribute_to_class(self, cls: type[models.Model], name: str, **kwargs: Any) -> None:
        super().contribute_to_class(cls, name, **kwargs)
        # The models of migrations are in registries of their own, and have no events.
        if not cls._meta.abstract and cls._meta.apps is apps:
            self.relation = UploadRelation(name)
            cls.add_to_class(f"{name}_upload", self.relation)
            models.signals.class_prepared.connect(self._prepared)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        file = super().pre_save(model_instance, add)
        saving = model_instance.__dict__.get(self._before)
        if saving is not None:
            # What a failing statement leaves in the row is known only after it: the rest is done there.
            saving["name"] = "" if add else self._name_to_change(model_instance, saving["using"])
        elif self.relation is not None and file.name:
            self._announce(model_instance, "")  # of `bulk_create`, which sends no signals
        return file

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": MediaFormField, **kwargs})

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        return [*super().check(**kwargs), *self._check_place(), *self._check_storage()]

    def _prepared(self, sender: type[models.Model], **__: Any) -> None:
        """Hear of rows that are saved or deleted, also by the name of a model that inherits."""
        if not issubclass(sender, self.model):
            return
        models.signals.pre_save.connect(self._saving, sender=sender)
        models.signals.post_save.connect(self._saved, sender=sender)
        # Of a model with a table of its own, Django deletes the parent's row as one of the parent.
        if sender._meta.concrete_model is self.model:
            models.signals.pre_delete.connect(self._deleting, sender=sender)
            models.signals.post_delete.connect(self._deleted, sender=sender)

    def _saving(self, instance: models.Model, using: str, **__: Any) -> None:
        instance.__dict__[self._before] = {"using": using}

    def _saved(self, instance: models.Model, **__: Any) -> None:
        before = instance.__dict__.pop(self._before, {})
        if "name" in before:  # else the field was not saved
            self._announce(instance, before["name"])

    def _announce(self, instance: models.Model, old: str) -> None:
        name = getattr(instance, self.attname).name or ""
        is_written = instance.__dict__.pop(self.written, False)
        if name == old and not is_written:
            return
        if name:
            upload = announcing.file_saved(self, instance, name, old, is_written=is_written)
            self.relation.set_cached_value(instance, upload)
        else:
            announcing.file_dropped(self, instance, old)

    def _deleting(self, instance: models.Model, using: str, **__: Any) -> None:
        instance.__dict__[self._before] = {"name": self._name_to_change(instance, using)}

    def _deleted(self, instance: models.Model, **__: Any) -> None:
        name = instance.__dict__.pop(self._before, {}).get("name")
        if name:
            announcing.file_dropped(self, instance, name)

    def stored_name(self, instance: models.Model, rows: models.QuerySet[Any] | None = None) -> str:
        """The name in the database, which may be another than when `instance` was loaded."""
        if rows is None:
            rows = type(instance)._base_manager.db_manager(hints={"instance": instance}).all()
        names = rows.filter(pk=instance.pk).order_by().values_list(self.attname, flat=True)
        return next(iter(names), None) or ""  # not `first`: Oracle locks no row of a query that has a limit

    def _name_to_change(self, instance: models.Model, using: str) -> str:
        """The same, locked in a transaction: of two that replace a file, the second sees the first's."""
        rows = models.QuerySet(type(instance), using=using)
        if connections[using].in_atomic_block:
            announcing.begin_to_write(using)
            no_key = connections[using].features.has_select_for_no_key_update
            rows = rows.select_for_update(no_key=no_key)
        return self.stored_name(instance, rows)

    def _check_place(self) -> list[checks.CheckMessage]:
        if callable(self.upload_to) or f"{self.upload_to}/".startswith(_UPLOADS):
            return []
        return [
            checks.Error(
                f"upload_to is {str(self.upload_to)!r}: media-worker takes only files below {_UPLOADS}.",
                hint=f'Begin it with "{_UPLOADS}", which is below MEDIA_ROOT.',
                obj=self,
                id="media_worker_django.E004",
            )
        ]

    def _check_storage(self) -> list[checks.CheckMessage]:
        if getattr(self.storage, "file_overwrite", False) or getattr(self.storage, "_allow_overwrite", False):
            return [
                checks.Warning(
                    "The field's storage overwrites files: two pictures of one name become one.",
                    hint="Set file_overwrite to False in the options of a storage of django-storages.",
                    obj=self,
                    id="media_worker_django.W010",
                )
            ]
        if not isinstance(self.storage, FileSystemStorage):
            return []
        root = str(self.storage.base_location)
        if not root:
            return [
                checks.Error(
                    "The field's files have no place: MEDIA_ROOT is empty.",
                    hint="Set MEDIA_ROOT to the storage root of the worker, the folder that has uploads/.",
                    obj=self,
                    id="media_worker_django.E005",
                )
            ]
        # Not `Path.exists`, which raises an error for a folder that may not be entered.
        if Path(root).name == _UPLOADS.rstrip("/") and not os.path.exists(f"{root}/.media-root.json"):
            return [
                checks.Error(
                    f"MEDIA_ROOT is {root}: it must be the folder above {_UPLOADS}.",
                    hint="Set MEDIA_ROOT to the storage root of the worker, the folder that has uploads/.",
                    obj=self,
                    id="media_worker_django.E006",
                )
            ]
        return []
