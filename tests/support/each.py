"""Runs one test for many small cases, and names every case that fails.

    @for_each("text, kind", [("hunter2", "password"), ...])
    def test_it_goes(text: str, kind: str) -> None: ...

`pytest.mark.parametrize` makes a test of each case. For thousands of cases that a function answers in microseconds,
collecting and reporting them takes most of the time, in every process of the run. All cases here share the fixtures of
one test, so they must not change anything that another case sees.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["for_each"]

Test = Callable[..., None]


def for_each(names: str, cases: Iterable[Any]) -> Callable[[Test], Test]:
    """Return a decorator that makes a test run for every case, also after one has failed.

    Args:
        names: the arguments that a case gives, with commas between them.
        cases: a value for each case, or a tuple of them for several names. There must be at least one.
    """
    arguments = [name.strip() for name in names.split(",")]
    values = [dict(zip(arguments, case if len(arguments) > 1 else (case,), strict=True)) for case in cases]
    assert values, "no cases"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def run(**others: Any) -> None:
            failures: list[Exception] = []
            for case in values:
                try:
                    test(**others, **case)
                except ExceptionGroup as error:
                    for failure in error.exceptions:
                        failure.add_note(_said(case))
                    failures += error.exceptions
                except Exception as error:  # noqa: BLE001 -- whatever it is, it is reported with its case below
                    error.add_note(_said(case))
                    failures.append(error)
            if failures:
                raise ExceptionGroup(f"{len(failures)} failures in {len(values)} cases", failures)

        given = inspect.signature(test)
        left = [parameter for name, parameter in given.parameters.items() if name not in arguments]
        vars(run)["__signature__"] = given.replace(parameters=left)
        return run

    return decorate


def _said(case: dict[str, Any]) -> str:
    return "case: " + ", ".join(f"{name}={value!r}" for name, value in case.items())
