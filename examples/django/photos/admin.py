"""Photos in the admin; what became of their files is under "Uploads"."""

from django.contrib import admin

from photos.models import Photo

admin.site.register(Photo)
