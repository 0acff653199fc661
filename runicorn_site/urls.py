from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("api/", include("runs.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "runicorn_site.errors.bad_request"
handler403 = "runicorn_site.errors.permission_denied"
handler404 = "runicorn_site.errors.page_not_found"
handler500 = "runicorn_site.errors.server_error"
