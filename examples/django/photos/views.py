"""The pages: Django's generic views, nothing more."""

from django.urls import reverse_lazy
from django.views.generic import CreateView, DeleteView, DetailView, ListView, UpdateView

from photos.models import Photo


class PhotoList(ListView):
    queryset = Photo.objects.select_related("image_upload")  # the rows about all pictures in one query
    paginate_by = 50


class OnePhoto(DetailView):
    model = Photo


class NewPhoto(CreateView):
    model = Photo
    fields = ("title", "image")


class EditPhoto(UpdateView):
    model = Photo
    fields = ("title", "image")


class DeletePhoto(DeleteView):
    model = Photo
    success_url = reverse_lazy("photos")
