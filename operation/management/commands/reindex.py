from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from operation import databases


class Command(BaseCommand):
    help = (
        "Empty the index of runs and artifacts, which the worker then makes again from the files. "
        "Users and settings stay. Stop the web processes and the worker first."
    )
    requires_system_checks = ()  # one of them asks for this command

    def handle(self, *args: Any, **options: Any) -> None:
        databases.rebuild_index()
        self.stdout.write("The index is empty; the worker makes it again from the files.")
