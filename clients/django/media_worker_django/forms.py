"""The field of a form: it shows the picture that a row has, and leads to no original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

from media_worker_django.templatetags.media import preview

if TYPE_CHECKING:
    from media_worker_django.fields import MediaFieldFile


class CurrentPicture:
    """What a widget shows of a file: a small picture that links to the largest variant.

    Widgets take the place of a link from `url`, and its text from `str`. Of an original they know nothing: it
    may be any bytes, and has the place where a photo was taken.
    """

    def __init__(self, file: MediaFieldFile) -> None:
        self.name = file.name
        self._upload = file.upload

    @property
    def url(self) -> str:
        """That of the largest variant; no page where there is none."""
        largest = self._upload.largest if self._upload else None
        return largest["url"] if largest else "#"

    def __str__(self) -> str:
        return preview(self._upload)


class MediaFormField(forms.FileField):
    """A FileField that offers pictures, and shows the one that is there."""

    def prepare_value(self, value: Any) -> Any:
        """What the widget is given; a file that was just sent as it is."""
        return CurrentPicture(value) if value and hasattr(value, "upload") else value

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        """Those of a FileField, and that it takes pictures."""
        attrs = super().widget_attrs(widget)
        if isinstance(widget, forms.FileInput) and "accept" not in widget.attrs:
            attrs["accept"] = "image/*"
        return attrs
