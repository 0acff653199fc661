"""Settings of the whole admin site."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

admin.site.site_header = "Runicorn"
admin.site.site_title = "Runicorn"
admin.site.index_title = _("Administration")
admin.site.enable_nav_sidebar = False  # leaves the width to the list of runs
