"""Exceptions that refuse input; ``errors.exception_handler`` turns them into responses."""

from __future__ import annotations

from collections.abc import Sequence

from rest_framework import status
from rest_framework.exceptions import APIException


class InvalidInput(APIException):
    """400: *detail* is for people; *loc* and *msg* tell programs what is wrong where."""

    status_code = status.HTTP_400_BAD_REQUEST

    def __init__(self, detail: str, loc: Sequence[str | int], msg: str | None = None) -> None:
        super().__init__(detail)
        self.errors = [{"loc": list(loc), "msg": msg or detail}]


class TooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The request body is too large."


class Conflict(APIException):
    """409: *detail* says what stands in the way."""

    status_code = status.HTTP_409_CONFLICT
