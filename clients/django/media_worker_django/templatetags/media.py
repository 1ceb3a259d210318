"""`{% media photo.image %}`: the `<img>` of a picture, or what stands there until it is ready."""

from __future__ import annotations

from typing import Any

from django import template
from django.forms.utils import flatatt
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from media_worker_django.models import State, Upload

register = template.Library()
_PREVIEW = 75  # px of its height


@register.simple_tag
def media(
    picture: Any,
    variant: str = "",
    *,
    sizes: str = "",
    alt: str | None = "",
    loading: str = "lazy",
    placeholder: bool = True,
    **attributes: Any,
) -> SafeString:
    """The `<img>` of a file of a MediaField, or of an `Upload`.

    With the name of a variant it shows that one, else the browser chooses by `srcset` and `sizes`. More
    attributes are written as they are named, `data_x` as `data-x`. What has no variants yet is a `<span>` of
    the class `media-pending` or `media-failed`; without a file there is nothing.
    """
    upload = picture if isinstance(picture, Upload) else getattr(picture, "upload", None)
    if upload is None and not getattr(picture, "state", ""):
        return SafeString("")
    shown = upload and ((upload.variant(variant) if variant else None) or upload.largest)
    if not shown:
        return _nothing_yet(upload)
    found: dict[str, Any] = {"src": shown["url"]}
    if not variant and upload.srcset:
        found["srcset"] = upload.srcset_urls
        found["sizes"] = sizes or ("auto, 100vw" if loading == "lazy" else "100vw")
    found |= {"width": shown["width"], "height": shown["height"], "alt": alt or "", "loading": loading}
    if placeholder and (style := _background(upload)):
        found["style"] = style
    found |= {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    return format_html("<img{}>", flatatt(found))


def preview(upload: Upload | None) -> SafeString:
    """The smallest picture of an upload, for forms and lists, where it is a link; else what stands there."""
    if upload is None or not upload.variants:
        return _nothing_yet(upload)
    smallest = min(upload.variants, key=lambda one: one["width"] * one["height"])
    width = round(_PREVIEW * smallest["width"] / max(1, smallest["height"]))
    name = upload.source.rpartition("/")[2]
    return media(upload, smallest["name"], alt=name, width=width, height=_PREVIEW)


def _nothing_yet(upload: Upload | None) -> SafeString:
    if upload is not None and upload.state == State.FAILED:
        return format_html('<span class="media-failed">{}</span>', upload.reason)
    if upload is not None and upload.state == State.DELETED:
        return format_html('<span class="media-failed">{}</span>', _("The picture was deleted."))
    return format_html('<span class="media-pending">{}</span>', _("The picture is being prepared."))


def _background(upload: Upload) -> str:
    """What is seen while the picture loads, and never below it: variants have no opacity."""
    if upload.placeholder:
        return f"background:{upload.color} url({upload.placeholder}) center/100% 100% no-repeat"
    return f"background:{upload.color}" if upload.color else ""
