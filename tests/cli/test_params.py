"""Params from arguments."""

from datetime import UTC, datetime

import pytest

from salesmachine_async.cli.json_input import DocumentError
from salesmachine_async.cli.params import ArgumentError, check_uid, read_moment, read_params


def test_params() -> None:
    """= is text, := is JSON; arguments take precedence over the document."""
    given = ["name=Elon = Musk", "mrr:=99", "vip:=true", "empty=", 'plan:={"id": [1]}', "a.b=c", "note=:=x"]
    assert read_params(given, '{"name": "document", "kept": null}') == {
        "name": "Elon = Musk",
        "kept": None,
        "mrr": 99,
        "vip": True,
        "empty": "",
        "plan": {"id": [1]},
        "a.b": "c",
        "note": ":=x",
    }


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["plan"], "'plan' is not a param: write name=text"),
        (["=x"], "'=x' has no name before the ="),
        ([":=1"], "':=1' has no name before the ="),
        (["a=1", "a:=2"], "a is given twice"),
        (["a=\udcff"], "is not valid UTF-8"),
    ],
)
def test_no_params(given: list[str], problem: str) -> None:
    """An argument that is not an assignment is an error with its text."""
    with pytest.raises(ArgumentError, match=problem):
        read_params(given, None)


@pytest.mark.parametrize(
    ("document", "problem"),
    [("[1]", "an array"), ('"x"', "a string"), ("1", "a number"), ("null", "null"), ("true", "true or false")],
)
def test_only_objects(document: str, problem: str) -> None:
    """--params must be an object."""
    with pytest.raises(DocumentError, match=f"--params must be a JSON object, not {problem}$"):
        read_params([], document)


def test_values_must_be_json() -> None:
    """A value that is not JSON is an error with its name."""
    with pytest.raises(DocumentError, match=r"^the value of mrr is not JSON: expecting value at line 1, column 1"):
        read_params(["mrr:=many"], None)


@pytest.mark.parametrize("uid", ["123", "a@b.c", "MTIzNA==", "x=", "é"])
def test_uids(uid: str) -> None:
    """Any text is a uid, base64 too."""
    assert check_uid("UID", uid) == uid


@pytest.mark.parametrize("uid", ["email=a@b.c", "mrr:=99", "a==b"])
def test_a_forgotten_uid(uid: str) -> None:
    """A param in the place of a uid is an error."""
    with pytest.raises(ArgumentError, match="the UID is missing"):
        check_uid("UID", uid)


def test_moments() -> None:
    """Times are ISO 8601, with and without a time and a zone."""
    assert read_moment("2026-11-05T09:30:00Z") == datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
    assert read_moment("2026-11-05") == datetime(2026, 11, 5)
    with pytest.raises(ArgumentError, match="--created-at is not ISO 8601: 'yesterday'"):
        read_moment("yesterday")
