"""One value, one form on the wire, wherever it stands; the document says the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from salesmachine_async.errors import InvalidMessage
from tests.support.core import strict_loads
from tests.support.encoding import Lenient, composed, encoder, line_of
from tests.support.value_table import DOCUMENT, PACKAGES, ROWS, Point, Row, document, missing, models, namespace

# A duration without a unit, which is refused, cannot even be made without a warning from NumPy 2.5 on.
pytestmark = pytest.mark.filterwarnings("ignore:The 'generic' unit for NumPy:DeprecationWarning")

rows = pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.source, marks=pytest.mark.skipif(bool(missing(row.group)), reason=f"no {row.group}"))
        for row in ROWS
    ],
)
CONTAINERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nothing": (lambda v: v, "{}"),
    "list": (lambda v: [v], "[{}]"),
    "tuple": (lambda v: (v,), "[{}]"),
    "namedtuple": (lambda v: Point(v, 1), "[{},1]"),
    "deque": (lambda v: deque([v]), "[{}]"),
    "dict": (lambda v: {"v": v}, '{{"v":{}}}'),
    "dict with an odd key": (lambda v: {1: v}, '{{"1":{}}}'),
    "mapping": (lambda v: MappingProxyType({"v": v}), '{{"v":{}}}'),
    "list in a dict in a list": (lambda v: [{"v": [v]}], '[{{"v":[{}]}}]'),
    **{name: (make, '{{"v":{}}}') for name, make in models().items()},
}


def params_text(line: bytes) -> str:
    """Return the JSON of the params of a line."""
    strict_loads(line)
    return line[line.index(b'"params":') + 9 : line.index(b',"created_at"')].decode()


@rows
def test_a_value_has_one_form_wherever_it_stands(row: Row) -> None:
    """A value has the form of the table in every container and model, on both paths."""
    for name, (wrap, around) in CONTAINERS.items():
        for beside in ({}, {"odd": 2**64}, {"odd key": {1: 1}}):
            params = {"v": wrap(row.value()), **beside}
            if row.wire is None:
                with pytest.raises(InvalidMessage, match=r"^params\.v") as caught:
                    line_of(encoder(), params)
                assert "2024" not in str(caught.value)
                expected = around.format("null")
                line = line_of(Lenient().encoder, params)
            else:
                expected = around.format(row.wire)
                line = line_of(encoder(), params)
            assert params_text(line).startswith(f'{{"v":{expected}'), name


@rows
def test_a_key_is_the_text_of_the_value(row: Row) -> None:
    """A value as a key is the text of the table, or is refused."""
    try:
        params = {row.value(): 1}
    except (TypeError, ValueError):
        assert row.key is None
        return
    if row.key is None:
        with pytest.raises(InvalidMessage, match=r"key of type|could not be converted"):
            line_of(encoder(), params)
        assert params_text(line_of(Lenient().encoder, params)) == "{}"
    else:
        assert strict_loads(params_text(line_of(encoder(), params))) == {row.key: 1}


@rows
def test_a_value_as_a_uid(row: Row) -> None:
    """A value identifies by the text of the table, or is refused."""
    if row.uid is None:
        with pytest.raises(InvalidMessage, match=r"^contact_uid: must be"):
            composed(encoder(), contact_uid=row.value())
    else:
        assert composed(encoder(), contact_uid=row.value())["contact_uid"] == row.uid


def test_a_field_that_is_missing_is_left_out_of_a_pydantic_model() -> None:
    """Pydantic defines that; alone, its sentinel is null."""
    group = {row.source: row.group for row in ROWS}["Model(v=1)"]
    if missing(group):
        pytest.skip("no pydantic")
    names = namespace(group)
    params = {"alone": names["MISSING"], "model": names["Model"](v=names["MISSING"])}
    assert params_text(line_of(encoder(), params)) == '{"alone":null,"model":{}}'


def test_what_a_subclass_overrides_does_not_matter() -> None:
    """The items that a dict, a list or an int holds are sent on the fast way and on the slow one."""

    class OwnDict(dict[str, int]):
        def items(self) -> Any:
            return [("other", 2)]

        __iter__ = keys = items

    class OwnList(list[int]):
        def __iter__(self) -> Any:
            return iter([2])

    class OwnInt(int):
        def __int__(self) -> int:
            return 2

    own = {"dict": OwnDict(a=1), "list": OwnList([1]), "int": OwnInt(1)}
    for beside in ({}, {"odd": 2**64}):
        text = params_text(line_of(encoder(), {"v": own, **beside}))
        assert text.startswith('{"v":{"dict":{"a":1},"list":[1],"int":1}')


def test_the_document_is_the_table() -> None:
    """docs/values.md says what these tests check: ``python -m tests.support.value_table`` prints it anew."""
    assert DOCUMENT.read_text() == "\n".join(document()) + "\n"


def test_each_group_names_its_packages() -> None:
    """A group without packages is never skipped."""
    assert {row.group for row in ROWS} == {"Standard library", *PACKAGES}
