"""What the administration refuses, as problems of the API."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mesh.administration.administration import InFile, Invalid, LockedOut, Stale
from mesh.administration.book import BookRefused
from protocols.rest.problems import Problem, problem_of


@contextmanager
def as_problems() -> Iterator[None]:
    """Raises Problem in the place of what the administration raises."""
    try:
        yield
    except Stale as error:
        raise Problem(409, "conflict", str(error), members={"conflicts": error.conflicts}) from error
    except (InFile, LockedOut) as error:
        raise Problem(409, "conflict", str(error)) from error
    except Invalid as error:
        raise Problem(400, "body-invalid", str(error)) from error
    except BookRefused as error:
        raise problem_of(error.refusal) from error
