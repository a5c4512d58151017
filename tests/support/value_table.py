"""
The values that applications pass, and the form of each on the wire: as data.

The rows drive the tests, and `docs/values.md` is printed from them: ``python -m tests.support.value_table``.
"""

# ruff: noqa: F401 (the sources of the rows use these names)

from __future__ import annotations

import dataclasses
from array import array
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "values.md"


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Access(IntFlag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class DataClass:
    v: Any


class Row(NamedTuple):
    """
    The expected form of one value.

    Attributes:
        group: The library it comes from.
        source: The value, as Python source.
        wire: Its JSON; None where it is refused.
        key: The key it becomes; None where it is refused.
        uid: The uid it becomes; None where it is refused.
    """

    group: str
    source: str
    wire: str | None
    key: str | None
    uid: str | None

    def value(self) -> Any:
        """Make the value."""
        return eval(self.source, namespace(self.group))


# The packages that a group needs, beside the standard library.
PACKAGES: Final = {
    "attrs": ("attrs",),
    "msgspec": ("msgspec",),
    "pydantic": ("pydantic",),
    "yarl": ("yarl",),
    "Starlette": ("starlette",),
    "Werkzeug": ("werkzeug",),
    "Django": ("django",),
    "SQLAlchemy": ("sqlalchemy",),
    "numpy": ("numpy",),
    "pandas": ("pandas",),
}


def missing(group: str) -> list[str]:
    """Return the packages of a group that are not installed."""
    return [package for package in PACKAGES.get(group, ()) if find_spec(package) is None]


def namespace(group: str) -> dict[str, Any]:
    """Return the names that the sources of a group use."""
    names = dict(globals())
    match group:
        case "attrs":
            names.update(attrs=import_module("attrs"), AttrsClass=models()["attrs"])
        case "msgspec":
            names.update(msgspec=import_module("msgspec"), StructClass=models()["msgspec"])
        case "pydantic":
            pydantic, core = import_module("pydantic"), import_module("pydantic_core")
            names.update(vars(pydantic), Model=models()["pydantic"], RootModel=pydantic.RootModel[list[int]])
            names.update(
                {name: getattr(pydantic, name) for name in ("SecretStr", "AnyHttpUrl")},
                Url=core.Url,
                PydanticUndefined=core.PydanticUndefined,
                MISSING=getattr(pydantic, "MISSING", None)  # since 2.14
                or import_module("pydantic.experimental.missing_sentinel").MISSING,
            )
        case "yarl":
            names["yarl"] = import_module("yarl")
        case "Starlette":
            names["datastructures"] = import_module("starlette.datastructures")
        case "Werkzeug":
            names["datastructures"] = import_module("werkzeug.datastructures")
        case "Django":
            names.update(_django())
        case "SQLAlchemy":
            names["row"] = _row()
        case "numpy":
            names["np"] = import_module("numpy")
        case "pandas":
            names["pd"] = import_module("pandas")
    return names


def models() -> dict[str, Any]:
    """Return a class with one field ``v`` of each kind of model that is installed."""
    found: dict[str, Any] = {"dataclass": DataClass}
    if find_spec("attrs"):
        import attrs

        found["attrs"] = attrs.make_class("AttrsClass", ["v"])
    if find_spec("msgspec"):
        import msgspec

        found["msgspec"] = msgspec.defstruct("StructClass", ["v"])
    if find_spec("pydantic"):
        import pydantic

        model = pydantic.create_model("Model", v=(Any, ...))
        found["pydantic"] = lambda v: model(v=v)
    return found


def _django() -> dict[str, Any]:
    from django.conf import settings
    from django.db.models import TextChoices
    from django.http import QueryDict
    from django.utils.safestring import SafeString
    from django.utils.translation import gettext_lazy

    if not settings.configured:
        settings.configure(USE_I18N=False)

    class Choice(TextChoices):
        YES = "yes", gettext_lazy("Yes")

    return {"QueryDict": QueryDict, "gettext_lazy": gettext_lazy, "Choice": Choice, "SafeString": SafeString}


def _row() -> Any:
    import sqlalchemy

    engine = sqlalchemy.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text("SELECT 1 AS a, 'text' AS b")).one()
    finally:
        engine.dispose()


ROWS: Final = (
    Row("Standard library", "None", "null", "null", None),
    Row("Standard library", "True", "true", "true", None),
    Row("Standard library", "7", "7", "7", "7"),
    Row("Standard library", "1.5", "1.5", "1.5", None),
    Row("Standard library", 'float("nan")', "null", None, None),
    Row("Standard library", 'float("inf")', "null", None, None),
    Row("Standard library", "2**64", '"18446744073709551616"', "18446744073709551616", "18446744073709551616"),
    Row("Standard library", '"text"', '"text"', "text", "text"),
    Row("Standard library", '"a\\ud800"', '"a�"', "a�", None),
    Row("Standard library", 'Decimal("1.50")', '"1.50"', "1.50", None),
    Row("Standard library", 'Decimal("NaN")', "null", None, None),
    Row("Standard library", "Fraction(1, 3)", '"1/3"', "1/3", None),
    Row("Standard library", "1j", None, None, None),
    Row(
        "Standard library",
        "UUID(int=1)",
        '"00000000-0000-0000-0000-000000000001"',
        "00000000-0000-0000-0000-000000000001",
        "00000000-0000-0000-0000-000000000001",
    ),
    Row("Standard library", "datetime(2026, 1, 2, 3, 4, 5)", '"2026-01-02T03:04:05Z"', "2026-01-02T03:04:05Z", None),
    Row(
        "Standard library",
        "datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)",
        '"2026-01-02T03:04:05Z"',
        "2026-01-02T03:04:05Z",
        None,
    ),
    Row(
        "Standard library",
        "datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2)))",
        '"2026-01-02T00:00:00+02:00"',
        "2026-01-02T00:00:00+02:00",
        None,
    ),
    Row("Standard library", "date(2026, 1, 2)", '"2026-01-02"', "2026-01-02", None),
    Row("Standard library", "time(1, 2, 3)", '"01:02:03"', "01:02:03", None),
    Row("Standard library", "timedelta(minutes=1.5)", "90.0", "90.0", None),
    Row("Standard library", 'ZoneInfo("Europe/Berlin")', None, None, None),
    Row("Standard library", 'b"text"', '"text"', "text", None),
    Row("Standard library", 'b"\\xff"', '"/w=="', "/w==", None),
    Row("Standard library", 'bytearray(b"text")', '"text"', None, None),
    Row("Standard library", 'memoryview(b"text")', '"text"', "text", None),
    Row("Standard library", 'PurePosixPath("a/b")', '"a/b"', "a/b", None),
    Row("Standard library", 'IPv4Address("192.0.2.1")', '"192.0.2.1"', "192.0.2.1", None),
    Row("Standard library", 'IPv6Network("2001:db8::/32")', '"2001:db8::/32"', "2001:db8::/32", None),
    Row("Standard library", 'urlsplit("https://example.com/a")', '["https","example.com","/a","",""]', None, None),
    Row("Standard library", "Colour.RED", '"red"', "red", "red"),
    Row("Standard library", "Level.LOW", "1", "1", "1"),
    Row("Standard library", "Word.YES", '"yes"', "yes", "yes"),
    Row("Standard library", "Access.READ | Access.WRITE", "3", "3", "3"),
    Row("Standard library", "[1]", "[1]", None, None),
    Row("Standard library", "(1,)", "[1]", None, None),
    Row("Standard library", "Point(1, 2)", "[1,2]", None, None),
    Row("Standard library", "{1}", "[1]", None, None),
    Row("Standard library", "frozenset({1})", "[1]", None, None),
    Row("Standard library", "deque([1])", "[1]", None, None),
    Row("Standard library", "range(3)", None, None, None),
    Row("Standard library", '{"a": 1}.keys()', '["a"]', None, None),
    Row("Standard library", '{"a": 1}.values()', "[1]", None, None),
    Row("Standard library", '{"a": 1}', '{"a":1}', None, None),
    Row("Standard library", 'MappingProxyType({"a": 1})', '{"a":1}', None, None),
    Row("Standard library", 'ChainMap({"a": 1})', '{"a":1}', None, None),
    Row("Standard library", 'UserDict({"a": 1})', '{"a":1}', None, None),
    Row("Standard library", "UserList([1])", "[1]", None, None),
    Row("Standard library", 'UserString("text")', '"text"', "text", "text"),
    Row("Standard library", 'array("i", [1, 2])', "[1,2]", None, None),
    Row("Standard library", "SimpleNamespace(a=1)", None, None, None),
    Row("Standard library", "DataClass(1)", '{"v":1}', None, None),
    Row("Standard library", "dataclasses.MISSING", "null", None, None),
    Row("Standard library", "NotImplemented", None, None, None),
    Row("Standard library", "int", None, None, None),
    Row("Standard library", "object()", None, None, None),
    Row("attrs", "AttrsClass(1)", '{"v":1}', None, None),
    Row("attrs", "attrs.NOTHING", "1", "1", None),
    Row("msgspec", "StructClass(1)", '{"v":1}', None, None),
    Row("msgspec", "msgspec.UNSET", "null", None, None),
    Row("msgspec", "msgspec.NODEFAULT", "null", None, None),
    Row("pydantic", "Model(v=1)", '{"v":1}', None, None),
    Row("pydantic", "RootModel([1])", "[1]", None, None),
    Row("pydantic", 'SecretStr("secret")', '"**********"', "**********", None),
    Row("pydantic", 'Url("https://example.com/a")', '"https://example.com/a"', "https://example.com/a", None),
    Row("pydantic", 'AnyHttpUrl("https://example.com/a")', '"https://example.com/a"', "https://example.com/a", None),
    Row("pydantic", "PydanticUndefined", "null", None, None),
    Row("yarl", 'yarl.URL("https://example.com/a")', '"https://example.com/a"', "https://example.com/a", None),
    Row("Starlette", 'datastructures.URL("https://example.com/a")', '"https://example.com/a"', None, None),
    Row("Starlette", 'datastructures.Headers({"a": "b"})', '{"a":"b"}', None, None),
    Row("Werkzeug", 'datastructures.MultiDict([("a", 1), ("a", 2)])', '{"a":[1,2]}', None, None),
    Row("Django", 'QueryDict("a=1&a=2")', '{"a":["1","2"]}', None, None),
    Row("Django", 'gettext_lazy("Yes")', '"Yes"', "Yes", "Yes"),
    Row("Django", "Choice.YES", '"yes"', "yes", "yes"),
    Row("Django", "Choice.YES.label", '"Yes"', "Yes", "Yes"),
    Row("Django", 'SafeString("text")', '"text"', "text", "text"),
    Row("SQLAlchemy", "row", '{"a":1,"b":"text"}', None, None),
    Row("SQLAlchemy", "row._mapping", '{"a":1,"b":"text"}', None, None),
    Row("numpy", "np.int64(7)", "7", "7", "7"),
    Row("numpy", "np.uint8(7)", "7", "7", "7"),
    Row("numpy", "np.float32(1.5)", "1.5", "1.5", None),
    Row("numpy", 'np.float64("nan")', "null", None, None),
    Row("numpy", "np.longdouble(1.5)", "1.5", "1.5", None),
    Row("numpy", "np.bool_(True)", "true", "true", None),
    Row("numpy", 'np.str_("text")', '"text"', "text", "text"),
    Row("numpy", 'np.bytes_(b"text")', '"text"', "text", None),
    Row("numpy", "np.complex128(1j)", None, None, None),
    Row("numpy", 'np.datetime64("2024-01-01T00", "ns")', '"2024-01-01T00:00:00Z"', "2024-01-01T00:00:00Z", None),
    Row(
        "numpy",
        'np.datetime64("2024-01-01T00:00:00.5", "ms")',
        '"2024-01-01T00:00:00.500000Z"',
        "2024-01-01T00:00:00.500000Z",
        None,
    ),
    Row("numpy", 'np.datetime64("2024-01-01")', '"2024-01-01"', "2024-01-01", None),
    Row("numpy", 'np.datetime64("20000-01-01")', None, None, None),
    Row("numpy", 'np.datetime64("-0500-01-01", "s")', None, None, None),
    Row("numpy", 'np.datetime64(213503982353601, "D")', None, None, None),
    Row("numpy", 'np.datetime64("NaT", "ns")', "null", None, None),
    Row("numpy", 'np.timedelta64(90, "ns")', "9e-8", "9e-08", None),
    Row("numpy", 'np.timedelta64(90, "s")', "90.0", "90.0", None),
    Row("numpy", 'np.timedelta64(5, "as")', "5e-18", "5e-18", None),
    Row("numpy", 'np.timedelta64(2**62, "h")', "1.6602069666338596e+22", "1.6602069666338596e+22", None),
    Row("numpy", 'np.timedelta64(3, "25ns")', "7.5e-8", "7.5e-08", None),
    Row("numpy", "np.timedelta64(5)", None, None, None),
    Row("numpy", 'np.timedelta64(1, "M")', None, None, None),
    Row("numpy", 'np.timedelta64("NaT", "ns")', "null", None, None),
    Row("numpy", "np.array([1, 2])", "[1,2]", None, None),
    Row("numpy", "np.array([[1.5, np.nan]])", "[[1.5,null]]", None, None),
    Row("numpy", "np.array(7)", "7", None, "7"),
    Row("numpy", 'np.array(["2024-01-01"], "datetime64[ns]")', '["2024-01-01T00:00:00Z"]', None, None),
    Row("numpy", 'np.array([90], "timedelta64[ns]")', "[9e-8]", None, None),
    Row(
        "numpy",
        'np.array([("2024-01-01", 90)], [("t", "datetime64[ns]"), ("d", "timedelta64[ns]")])',
        '[["2024-01-01T00:00:00Z",9e-8]]',
        None,
        None,
    ),
    Row("numpy", 'np.array([(1, 2.5)], [("a", int), ("b", float)])[0]', "[1,2.5]", None, None),
    Row("numpy", "np.ma.masked", "null", None, None),
    Row("pandas", 'pd.Timestamp("2024-01-01T00:00:00")', '"2024-01-01T00:00:00Z"', "2024-01-01T00:00:00Z", None),
    Row("pandas", 'pd.Timestamp("2024-01-01", tz="UTC")', '"2024-01-01T00:00:00Z"', "2024-01-01T00:00:00Z", None),
    Row("pandas", 'pd.Timedelta(90, "s")', "90.0", "90.0", None),
    Row("pandas", "pd.NaT", "null", None, None),
    Row("pandas", "pd.NA", "null", None, None),
    Row("pandas", "pd.Series([1, 2])", "[1,2]", None, None),
    Row("pandas", 'pd.Series(pd.to_datetime(["2024-01-01"]))', '["2024-01-01T00:00:00Z"]', None, None),
    Row("pandas", "pd.Index([1])", "[1]", None, None),
    Row("pandas", 'pd.Period("2024-01", "M")', None, None, None),
    Row("pandas", 'pd.DataFrame({"a": [1]})', None, None, None),
)


def document() -> Iterator[str]:
    """Yield the lines of the document's tables."""
    yield from TEXT.splitlines()
    groups = dict.fromkeys(row.group for row in ROWS)
    for group in groups:
        yield from ("", f"## {group}", "", "| value | on the wire | as a key | as a uid |", "|---|---|---|---|")
        for row in ROWS:
            if row.group == group:
                cells = (row.source, row.wire, row.key if row.key is None else f'"{row.key}"', row.uid)
                yield "| " + " | ".join(_cell(each) for each in cells) + " |"


def _cell(text: str | None) -> str:
    return "refused" if text is None else "`" + text.replace("|", "\\|") + "`"


TEXT: Final = """# Values

One value has one form on the wire, wherever it stands: in `params`, in a list, in a dict, in a dataclass, an attrs
class, a msgspec struct or a pydantic model. This page is printed from the table that the tests run
(`tests/support/value_table.py`).

* *Refused* means `InvalidMessage` with the path of the value (`params.plan.price`) at the call. Under
  `Invalid.REPORT` the value becomes `null`, a key is left out with its value, and a call without a usable uid is
  dropped; each is counted and logged with its path, never with the value.
* Stand-ins for "no value" (NaN, infinity, NaT, NA, UNSET, NODEFAULT, MISSING) become `null`; a pydantic model leaves
  out a field that is MISSING. `attrs.NOTHING` is an Enum member and becomes its value.
* Enum members are their value. Naive datetimes are UTC. Durations are seconds. Decimals are text, because a float would
  round money. Bytes are text if they are UTF-8, else base64. Integers beyond 64 bits are text.
* Models are objects of their public fields; names with a leading underscore are left out. pydantic's serialisers,
  aliases excepted, and its excluded fields are respected; a dataclass inside of a pydantic model is written by
  pydantic, private fields included.
* Params are nested at most 253 levels deep, themselves included. A container that holds itself is refused.
* Two keys that become the same text are refused. A key is the text of the scalar that it would be as a value.
* A uid is a non-empty text or an integer; an Enum member, a UUID, an integer of numpy and a lazy text of Django are
  taken as what they stand for."""


if __name__ == "__main__":
    DOCUMENT.write_text("\n".join(document()) + "\n")
