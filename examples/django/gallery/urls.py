"""Five pages, the admin, and the variants while `DEBUG` is on."""

from django.contrib import admin
from django.urls import include, path
from photos import views

urlpatterns = [
    path("", views.PhotoList.as_view(), name="photos"),
    path("new/", views.NewPhoto.as_view(), name="new"),
    path("<int:pk>/", views.OnePhoto.as_view(), name="photo"),
    path("<int:pk>/edit/", views.EditPhoto.as_view(), name="edit"),
    path("<int:pk>/delete/", views.DeletePhoto.as_view(), name="delete"),
    path("admin/", admin.site.urls),
    path("", include("media_worker_django.urls")),
]
