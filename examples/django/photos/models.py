"""A photo with its title."""

from django.db import models
from django.urls import reverse
from media_worker_django.fields import MediaField


class Photo(models.Model):
    title = models.CharField(max_length=100)
    image = MediaField(metadata=lambda photo: {"filename": photo.title})

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        """Its page."""
        return reverse("photo", args=[self.pk])
