"""Conversion of rows to calls, or to the reason of a rejection."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest

from salesmachine_async.cli.importing.conversions import BadValue, guess, moment
from salesmachine_async.cli.importing.mapping import BadRow, Mapper, TrackingCall
from salesmachine_async.cli.importing.preflight import make_columns
from salesmachine_async.cli.importing.rows import CsvRows, NdjsonRows
from salesmachine_async.cli.importing.source import InputProblem

SALT = b"s" * 16
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def calls(text: str, kind: str | None = None, **said: list[str]) -> list[TrackingCall | str]:
    """Convert NDJSON, or CSV if the text does not begin like an object."""
    shape = make_columns(kind, said.get("maps", []), said.get("sets", []), said.get("types", []))
    chunks = iter([text.encode()])
    rows = NdjsonRows(chunks, SALT) if text.startswith(("{", "[")) else CsvRows(chunks, SALT, ",", "x.csv")
    mapper = Mapper(shape, rows.header, "x.csv")
    found: list[TrackingCall | str] = []
    for some in rows:
        for row in some:
            try:
                found.append(mapper.call(row))
            except BadRow as error:
                found.append(str(error))
    return found


def call(row: dict[str, Any] | str, kind: str | None = None, **said: list[str]) -> TrackingCall:
    (found,) = calls(row if isinstance(row, str) else json.dumps(row), kind, **said)
    assert isinstance(found, TrackingCall), found
    return found


def reason(row: dict[str, Any] | str, kind: str | None = None, **said: list[str]) -> str:
    (found,) = calls(row if isinstance(row, str) else json.dumps(row), kind, **said)
    assert isinstance(found, str), found
    return found


def test_the_form_of_the_wire() -> None:
    """A message of the API becomes its call."""
    event = {
        "method": "event",
        "contact_uid": 7,
        "event_uid": "signup",
        "params": {"plan": {"name": "pro"}},
        "created_at": "2026-01-31T12:00:00Z",
        "messageId": "m-1",
    }
    assert call(event) == TrackingCall("event", "7", "signup", {"plan": {"name": "pro"}}, AT, "m-1")
    contact = {"method": "contact", "contact_uid": "7", "params": None, "created_at": None, "messageId": "m"}
    assert call(contact) == TrackingCall("contact", "7", "", {}, None, "m")
    assert call({"method": "account", "account_uid": "9", "messageId": "m"}) == TrackingCall(
        "account", "9", "", {}, None, "m"
    )
    assert call({"method": "alias", "contact_uid": "7", "alias": 8}) == TrackingCall("alias", "7", "8", {}, None, None)
    pageview = call({"method": "pageview", "contact_uid": "7", "params": {"visit_url": "/"}, "message_id": "m"})
    assert pageview == TrackingCall("event", "7", "pageview", {"visit_url": "/"}, None, "m")


def test_lines_of_the_export() -> None:
    """A line of the sandbox's export becomes a call, with the account of an event in its params."""
    line = {"method": "event", "contact_uid": "1", "event_uid": "e", "account_uid": "9", "params": {"a": 1}}
    assert call(line).params == {"a": 1, "account_uid": "9"}
    assert call({**line, "params": {"account_uid": "8"}}).params == {"account_uid": "8"}
    assert call({**line, "account_uid": None}).params == {"a": 1}
    assert call({"method": "alias", "contact_uid": "1", "alias": "2", "created_at": "2026-01-01"}).other == "2"
    assert reason({"method": "contact", "contact_uid": "1", "archived": True}) == (
        "is archived, and the tracking API cannot archive"
    )
    assert reason({"object": "task", "type": "call"}) == "is a task of the v2 API, which the tracking API cannot make"
    assert reason({"object": "activity"}) == "is an activity of the v2 API, which the tracking API cannot make"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{nope", "is not JSON: "),
        ("[1]", "is JSON, but not an object"),
        ({"contact_uid": "1"}, 'has no "method"; name the kind of the rows with --type'),
        ({"method": "order", "contact_uid": "1"}, "method must be one of contact, account, event, pageview, alias"),
        ({"method": ["event"]}, "method must be one of"),
        ({"method": "contact"}, "contact_uid is missing"),
        ({"method": "contact", "contact_uid": ""}, "contact_uid is empty"),
        ({"method": "contact", "contact_uid": 1.5}, "contact_uid must be a text or a whole number"),
        ({"method": "contact", "contact_uid": True}, "contact_uid must be a text or a whole number"),
        ({"method": "event", "contact_uid": "1"}, "event_uid is missing"),
        ({"method": "contact", "contact_uid": "1", "email": "a"}, 'has "email" beside its params'),
        ({"method": "contact", "contact_uid": "1", "params": []}, "params must be an object"),
        ({"method": "contact", "contact_uid": "1", "messageId": 5}, "messageId must be a text that is not empty"),
        ({"method": "contact", "contact_uid": "1", "messageId": ""}, "messageId must be a text that is not empty"),
        ({"method": "contact", "contact_uid": "1", "created_at": "soon"}, "created_at: 'soon' is neither ISO 8601"),
        ({"method": "contact", "contact_uid": 10**30}, "contact_uid must be a text or a whole number"),
    ],
)
def test_rows_that_are_no_message(row: dict[str, Any] | str, why: str) -> None:
    """A row that is not a message has a reason that says what to correct."""
    assert reason(row).startswith(why)


def test_bytes_that_are_no_text() -> None:
    """The reason names the byte."""
    rows = next(iter(NdjsonRows(iter([b'{"method": "contact", "contact_uid": "\xff"}']), SALT)))
    with pytest.raises(BadRow, match=r"is not valid UTF-8 \(byte 39 is 0xff\)"):
        Mapper(make_columns(None, [], [], []), None, "x").call(rows[0])


def test_flat_rows() -> None:
    """With --type the columns of the API have their meaning, all others are params."""
    text = "contact_uid,name,account_uid,created_at,message_id\n1,Ann,9,2026-01-31T12:00:00Z,m\n2,,,,\n"
    first, second = calls(text, "contact")
    assert first == TrackingCall("contact", "1", "", {"name": "Ann", "account_uid": "9"}, AT, "m")
    assert isinstance(second, TrackingCall)
    assert (second.uid, second.params, second.created_at) == ("2", {}, None)
    row = {"account_uid": 9, "name": "Tesla", "plan": {"name": "pro"}, "messageId": "m", "note": None}
    assert call(row, "account") == TrackingCall(
        "account", "9", "", {"name": "Tesla", "plan": {"name": "pro"}, "note": None}, None, "m"
    )
    assert call({"contact_uid": "1", "event_uid": "e", "method": "card"}, "event").params == {"method": "card"}
    assert call({"contact_uid": "1", "visit_url": "/"}, "pageview").other == "pageview"
    assert call("contact_uid,alias\n1,2\n", "alias") == TrackingCall("alias", "1", "2", {}, None, None)


def test_rows_of_the_wire_under_a_type() -> None:
    """--type also accepts rows with a method, if it is the same."""
    row = {"method": "contact", "contact_uid": "1", "params": {"a": 1, "b": 2}, "b": 3}
    assert call(row, "contact").params == {"a": 1, "b": 3}
    assert call({"contact_uid": "1", "params": None}, "contact").params == {}
    assert reason(row, "account") == 'has the method "contact", but --type says account'


def test_csv_with_a_method() -> None:
    """A column `method` makes --type unnecessary."""
    text = "method,contact_uid,event_uid,plan\ncontact,1,,pro\nevent,1,signup,\nnope,1,,\n"
    first, second, third = calls(text)
    assert isinstance(first, TrackingCall)
    assert isinstance(second, TrackingCall)
    assert (first.method, first.params) == ("contact", {"plan": "pro"})
    assert (second.method, second.other, second.params) == ("event", "signup", {})
    assert str(third).startswith("method must be one of")


def test_an_alias_has_nothing_else() -> None:
    """A column that cannot be sent is a reason, and not left out."""
    assert "leave it out with --map name=" in reason("contact_uid,alias,name\n1,2,Ann\n", "alias")
    assert call("contact_uid,alias,name\n1,2,Ann\n", "alias", maps=["name="]).other == "2"


def test_map() -> None:
    """--map renames columns of CSV and of NDJSON; an empty name leaves them out."""
    maps = ["id=contact_uid", "Full Name=name", "junk="]
    found = call("id,Full Name,junk\n1,Ann,x\n", "contact", maps=maps)
    assert (found.uid, found.params) == ("1", {"name": "Ann"})
    found = call({"id": 1, "Full Name": "Ann", "junk": 5}, "contact", maps=maps)
    assert (found.uid, found.params) == ("1", {"name": "Ann"})
    assert reason({"id": 1, "contact_uid": 2}, "contact", maps=maps) == 'has two values for "contact_uid"'
    # Values go with one name only: others of the same kind stay what they are.
    assert call({"contact_uid": 1, "event": "e"}, "event", maps=["event=event_uid"]).other == "e"


def test_set() -> None:
    """--set adds values that a row lacks."""
    assert call("contact_uid,plan\n1,\n", "event", sets=["event_uid=signup", "plan=free"]) == call(
        "contact_uid,plan\n1,\n", "event", sets=["event_uid=signup", "plan=free"]
    )
    found = call("contact_uid,plan\n1,\n", "event", sets=["event_uid=signup", "plan=free"])
    assert (found.other, found.params) == ("signup", {"plan": "free"})
    assert call({"contact_uid": 1, "event_uid": "e"}, "event", sets=["event_uid=signup"]).other == "e"


def test_cells_stay_texts_unless_asked() -> None:
    """Leading zeros, phone numbers and long digits stay texts by default; empty cells are not sent."""
    text = 'contact_uid,phone,zip,seats,mrr,vip,plan,note\n007,0612345678,01234,12,9.5,yes,"{""n"": 1}",\n'
    assert call(text, "contact").params == {
        "phone": "0612345678",
        "zip": "01234",
        "seats": "12",
        "mrr": "9.5",
        "vip": "yes",
        "plan": '{"n": 1}',
    }
    types = ["seats=integer,mrr=number", "vip=boolean", "plan=json"]
    found = call(text, "contact", types=types)
    assert found.uid == "007"
    assert found.params == {
        "phone": "0612345678",
        "zip": "01234",
        "seats": 12,
        "mrr": 9.5,
        "vip": True,
        "plan": {"n": 1},
    }
    assert call(text, "contact", types=["auto", "vip=text"]).params == {
        "phone": "0612345678",
        "zip": "01234",
        "seats": 12,
        "mrr": 9.5,
        "vip": "yes",
        "plan": '{"n": 1}',
    }


def test_types_apply_to_the_texts_of_ndjson_too() -> None:
    """Other values than texts, and empty texts, are not converted."""
    row = {"contact_uid": 1, "a": "5", "b": 7.5, "c": "", "d": None}
    assert call(row, "contact", types=["auto"]).params == {"a": 5, "b": 7.5, "c": "", "d": None}
    wire = {"method": "contact", "contact_uid": 1, "params": {"a": "5"}}
    assert call(wire, types=["a=number"]).params == {"a": 5}


@pytest.mark.parametrize(
    ("cell", "kind", "why"),
    [
        ("twelve", "integer", "a: 'twelve' is not a number like 1234.5"),
        ("1.5", "integer", "a: '1.5' is not a whole number"),
        ("1 000", "number", "a: '1 000' is not a number"),
        ("'1,5'", "number", "a: "),
        ("nan", "number", "a: 'nan' is not a number"),
        ("1e999", "number", "a: '1e999' is not a number"),
        ("9" * 5000, "integer", "a: '9999"),
        ("maybe", "boolean", "a: 'maybe' is not true, false, yes, no, 1 or 0"),
        ("{", "json", "a: is not JSON: "),
        ("x" * 100, "number", "a: 'xxxxxxx"),
    ],
)
def test_cells_that_are_not_what_was_said(cell: str, kind: str, why: str) -> None:
    """The reason names the column and shows a short cell."""
    found = reason({"contact_uid": 1, "a": cell}, "contact", types=[f"a={kind}"])
    assert found.startswith(why)
    assert len(found) < 120


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-5", -5),
        ("1.50", 1.5),
        ("true", True),
        ("FALSE", False),
        ("007", "007"),
        ("+33612345678", "+33612345678"),
        ("1e5", "1e5"),
        ("1234567890123456", "1234567890123456"),
        ("", ""),
        (" 1", " 1"),
        ("٣", "٣"),
        ("inf", "inf"),
    ],
)
def test_auto_guesses_only_what_is_certain(text: str, value: object) -> None:
    """auto converts numbers as JSON writes them, if they are exact, and true and false."""
    found = guess(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("2026-01-31T12:00:00Z", AT),
        ("2026-01-31T13:00:00+01:00", datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))),
        ("2026-01-31 12:00:00", AT),
        ("2026-01-31", AT.replace(hour=0)),
        ("20260131", AT.replace(hour=0)),
        (1769860800, AT),
        ("1769860800", AT),
        (1769860800000, AT),
        ("1769860800000", AT),
        (1769860800.5, AT.replace(microsecond=500_000)),
        ("-1", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times(value: object, expected: datetime | None) -> None:
    """Times are ISO 8601 or epochs in seconds or milliseconds, also as text; without an offset they are UTC."""
    assert moment(value) == expected


@pytest.mark.parametrize("value", ["yesterday", "31/01/2026", True, [], {}, 1e300, "9" * 40, "2026-13-01"])
def test_what_is_no_time(value: object) -> None:
    """An invalid time is rejected, because without one the row would get the current time."""
    with pytest.raises(BadValue, match="is neither ISO 8601"):
        moment(value)


def test_ids_are_made_of_the_row() -> None:
    """The id of a row depends on its text, line, file and options only."""
    text = '{"contact_uid": 1}\n{"contact_uid": 1}\n'
    first, second = calls(text, "contact")
    assert isinstance(first, TrackingCall)
    assert isinstance(second, TrackingCall)
    assert first.message_id != second.message_id
    assert calls(text, "contact") == [first, second]
    assert len(first.message_id or "") == 26
    changed = call('{"contact_uid": 1, "a": 2}\n', "contact")
    assert changed.message_id != first.message_id


def test_columns_are_counted() -> None:
    """A row with another number of cells than the header is rejected."""
    assert calls("contact_uid,name\n1\n2,a,b\n", "contact") == [
        "has 1 cells, the header has 2",
        "has 3 cells, the header has 2",
    ]


@pytest.mark.parametrize(
    ("header", "kind", "said", "why"),
    [
        ("id,name", "contact", {}, 'has no column "contact_uid"; name one with --map COLUMN=contact_uid'),
        ("contact_uid", "event", {}, "or give all the same with --set"),
        ("id,name", None, {}, "name the kind of its rows with --type"),
        ("contact_uid;name", "contact", {}, r"are they separated by ';'\? Use --delimiter"),
        ("contact_uid,,name", "contact", {}, "column 2 of the header has no name"),
        ("contact_uid,name,name", "contact", {}, 'two columns for "name"'),
        ("contact_uid,name,n", "contact", {"maps": ["n=name"]}, 'two columns for "name"'),
        ("contact_uid,name", "contact", {"maps": ["nam=x"]}, 'no column "nam" to --map; it has: contact_uid, name'),
        ("contact_uid,name", "contact", {"types": ["nam=number"]}, 'no column "nam" for --types'),
    ],
)
def test_headers_that_do_not_fit(header: str, kind: str | None, said: dict[str, list[str]], why: str) -> None:
    """A problem of all rows is one error before anything is sent."""
    with pytest.raises(InputProblem, match=why):
        calls(header + "\n1,2\n", kind, **said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"maps": ["email"]}, "--map email: write it as NAME=NAME"),
        ({"sets": ["=x"]}, "--set =x: write it as NAME=VALUE"),
        ({"types": ["a=float"]}, '"float" is not one of text, number, integer, boolean, json, auto'),
    ],
)
def test_options_that_say_nothing(said: dict[str, list[str]], why: str) -> None:
    """An unusable option is an error that names it."""
    with pytest.raises(InputProblem, match=why):
        make_columns("contact", said.get("maps", []), said.get("sets", []), said.get("types", []))
    with pytest.raises(InputProblem, match="is for events, but --type is contact"):
        make_columns("contact", [], ["event_uid=x"], [])


def test_rejected_rows_that_were_corrected() -> None:
    """A line of --rejects is the row in it, corrected under "row", or as JSON in "text"."""
    line = {"file": "x.csv", "line": 7, "reason": "contact_uid is missing", "text": ",Ann"}
    assert call({**line, "row": {"contact_uid": "1", "name": "Ann"}}, "contact").params == {"name": "Ann"}
    text = orjson.dumps({"method": "contact", "contact_uid": "1"}).decode()
    assert call({**line, "text": text}).uid == "1"
    assert reason(line, "contact").startswith('was rejected before and has no "row"')
    assert reason({**line, "text": "[]"}, "contact").startswith("was rejected before")
