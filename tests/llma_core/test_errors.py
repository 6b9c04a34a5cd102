from __future__ import annotations

import pytest

from llma_core import errors
from llma_core.errors import CoreError, RecordError


def test_every_error_is_a_core_error() -> None:
    members = [getattr(errors, name) for name in errors.__all__]

    assert all(issubclass(member, CoreError) for member in members)


def test_the_base_is_never_raised_itself() -> None:
    with pytest.raises(TypeError, match="base class"):
        CoreError("something")


def test_an_error_carries_its_reason_and_says_it() -> None:
    error = RecordError("not a JSON object")

    assert error.reason == "not a JSON object"
    assert str(error) == "not a JSON object"


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in errors.__all__)
