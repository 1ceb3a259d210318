"""The variants, in development: with `DEBUG` off there is no URL here, for the web server serves them."""

from pathlib import Path

from django.conf import settings
from django.conf.urls.static import static

urlpatterns = static(
    f"{settings.MEDIA_URL}variants/", document_root=str(Path(settings.MEDIA_ROOT or ".") / "variants")
)
