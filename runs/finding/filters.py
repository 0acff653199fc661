"""The filters of the V2 list: parameters of the URL become conditions of the queryset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django import forms
from django_filters import rest_framework as filters

from core.http.exceptions import InvalidInput
from core.http.fields import read_flag, read_number

from ..models import Run
from ..querysets import RunQuerySet
from . import search


def tag_list(text: str) -> list[str]:
    return [tag for item in text.split(",") if (tag := item.strip())]


class FlagField(forms.Field):
    def to_python(self, value: Any) -> bool | None:
        try:
            return None if value is None else read_flag(str(value))
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class ExactField(forms.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, **options)


class NumberField(forms.Field):
    def to_python(self, value: Any) -> float | None:
        try:
            return None if value in self.empty_values else read_number(value)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class FlagFilter(filters.Filter):
    field_class = FlagField


class TextFilter(filters.CharFilter):
    field_class = ExactField


class FloatFilter(filters.Filter):
    field_class = NumberField


class RunFilter(filters.FilterSet):
    project = TextFilter("project__name", label="Exact name of the project.")
    name = TextFilter(label="Exact name of the experiment.")
    status = TextFilter(method="of_status", label="One of these, separated by commas.")
    tags = TextFilter(method="with_tags", label="All of these, separated by commas.")
    search = TextFilter(
        method="with_words",
        label="Words, or parts of them, that all stand in project, experiment, notes, tags or id. "
        'Several words in `"quotes"` are one.',
    )
    created_after = FloatFilter(method="created", label="Unix seconds, inclusive; 0: no limit.")
    created_before = FloatFilter(method="created", label="Unix seconds, inclusive; 0: no limit.")
    best_metric_min = FloatFilter("best_metric_value", "gte", label="Inclusive.")
    best_metric_max = FloatFilter("best_metric_value", "lte", label="Inclusive.")
    include_deleted = FlagFilter(method="with_deleted", label="Those in the recycle bin, too.")
    q = TextFilter(method="with_query", label="A question in the query language for runs.")

    class Meta:
        model = Run
        fields: list[str] = []

    @classmethod
    def narrow(cls, runs: RunQuerySet, params: Mapping[str, str]) -> RunQuerySet:
        """Return the *runs* that match the parameters of a URL. Raises InvalidInput."""
        filters = cls(params, queryset=runs)
        if not filters.is_valid():
            name, errors = next(iter(filters.errors.items()))
            raise InvalidInput(f"{name}: {errors[0]}", ["query", name], str(errors[0]))
        return cast(RunQuerySet, filters.qs)

    def filter_queryset(self, queryset: RunQuerySet) -> RunQuerySet:
        if not self.form.cleaned_data["include_deleted"]:
            queryset = queryset.active()
        return super().filter_queryset(queryset)

    def of_status(self, runs: RunQuerySet, name: str, value: str) -> RunQuerySet:
        return runs.filter(status__in=value.split(","))

    def with_tags(self, runs: RunQuerySet, name: str, value: str) -> RunQuerySet:
        return runs.tagged(*tag_list(value))

    def with_words(self, runs: RunQuerySet, name: str, value: str) -> RunQuerySet:
        return runs.full_text(value)

    def created(self, runs: RunQuerySet, name: str, value: float) -> RunQuerySet:
        bound = "gte" if name == "created_after" else "lte"
        return runs.filter(**{f"created_time__{bound}": value}) if value else runs

    def with_deleted(self, runs: RunQuerySet, name: str, value: bool) -> RunQuerySet:
        return runs  # see filter_queryset: without the flag, deleted runs are left out

    def with_query(self, runs: RunQuerySet, name: str, value: str) -> RunQuerySet:
        return search.apply_query(runs, value)
