"""
Records of other SDKs (``--from``) as messages of this API.

Each converter takes a record of an export, or a message for the HTTP API of the SDK, and returns its messages. The
tables in docs/importing.md describe the same mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import orjson

Record = Mapping[str, Any]
Messages = list[dict[str, Any]]


class NotMappable(ValueError):
    """A record that has no equivalent in this API."""


# Segment and RudderStack, which share a specification.


def _segment(record: Record) -> Messages:
    kind = record.get("type")
    convert = _SEGMENT_TYPES.get(kind) if isinstance(kind, str) else None
    if convert is None:
        if kind is None:
            raise NotMappable(f'has no "type"; expected one of {", ".join(_SEGMENT_TYPES)}')
        raise NotMappable(f'is of the type "{kind}", which has no equivalent; expected {", ".join(_SEGMENT_TYPES)}')
    found = convert(record)
    _stamp(
        found,
        _first(record, "timestamp", "originalTimestamp", "sentAt", "receivedAt"),
        _first(record, "messageId", "message_id"),
    )
    return found


def _segment_uid(record: Record) -> Any:
    uid = _first(record, "userId", "anonymousId")
    if uid is None:
        raise NotMappable("has neither userId nor anonymousId")
    return uid


def _segment_params(record: Record, name: str) -> dict[str, Any]:
    """Return traits or properties, with the account of the context."""
    context = _object(record, "context")
    params = {**(_object(context, name) if name == "traits" else {}), **_object(record, name)}
    if "account_uid" not in params and (account := context.get("groupId")) is not None:
        params["account_uid"] = account
    return params


def _segment_identify(record: Record) -> Messages:
    return [_contact(_segment_uid(record), _segment_params(record, "traits"))]


def _segment_track(record: Record) -> Messages:
    return [_event(_segment_uid(record), _first(record, "event"), _segment_params(record, "properties"))]


def _segment_page(record: Record) -> Messages:
    context = _object(record, "context")
    params = _segment_params(record, "properties")
    page = _object(context, "page")
    url = _first(params, "url", "path") or _first(page, "url", "path")
    if (name := record.get("name")) is not None:
        params.setdefault("name", name)
    return [_pageview(_segment_uid(record), params, url, context.get("ip"), context.get("userAgent"))]


def _segment_group(record: Record) -> Messages:
    group = _first(record, "groupId")
    if group is None:
        raise NotMappable("has no groupId")
    uid = _first(record, "userId", "anonymousId")
    account = {"method": "account", "account_uid": group, "params": _object(record, "traits")}
    return [account] if uid is None else [account, _contact(uid, {"account_uid": group})]


def _segment_alias(record: Record) -> Messages:
    return [_alias(_first(record, "userId"), _first(record, "previousId", "anonymousId"))]


_SEGMENT_TYPES: dict[str, Callable[[Record], Messages]] = {
    "identify": _segment_identify,
    "group": _segment_group,
    "track": _segment_track,
    "page": _segment_page,
    "alias": _segment_alias,
}


# PostHog.


def _posthog(record: Record) -> Messages:
    name, uid = record.get("event"), _first(record, "distinct_id")
    properties = _object(record, "properties")
    if uid is None:
        uid = _first(properties, "distinct_id")
    if not isinstance(name, str) or uid is None:
        raise NotMappable('has no "event"' if not isinstance(name, str) else "has no distinct_id")
    found = _posthog_messages(name, uid, properties)
    _stamp(found, _first(record, "timestamp", "sent_at"), _first(record, "uuid"))
    return found


def _posthog_messages(name: str, uid: Any, properties: dict[str, Any]) -> Messages:
    person = {**_object(properties, "$set_once"), **_object(properties, "$set")}
    if name == "$identify":
        anonymous = properties.get("$anon_distinct_id")
        aliases = [] if anonymous in (None, "", uid) else [_alias(uid, anonymous)]
        return [_contact(uid, person), *aliases]
    if name == "$set":
        return [_contact(uid, person)]
    if name in ("$create_alias", "$merge_dangerously"):
        return [_alias(uid, properties.get("alias"))]
    if name == "$groupidentify":
        key = _first(properties, "$group_key")
        return [{"method": "account", "account_uid": key, "params": _object(properties, "$group_set")}]
    params = _without_internal(properties, "$", names=("token", "distinct_id"))
    if (account := _single(_object(properties, "$groups"))) is not None:
        params.setdefault("account_uid", account)
    if name == "$pageview":
        url, agent = properties.get("$current_url"), _first(properties, "$raw_user_agent", "$user_agent")
        return [_pageview(uid, params, url, properties.get("$ip"), agent)]
    if name.startswith("$"):
        raise NotMappable(f'is "{name}", an internal event of PostHog without an equivalent')
    return [_event(uid, name, params)]


# Mixpanel.

_MIXPANEL_NAMES = {
    f"${name}": name for name in ("email", "name", "first_name", "last_name", "phone", "avatar", "created")
}


def _mixpanel(record: Record) -> Messages:
    if "event" not in record:
        return [_mixpanel_profile(record)]
    name, properties = record["event"], _object(record, "properties")
    if not isinstance(name, str):
        raise NotMappable("its event is not a text")
    found = _mixpanel_event(name, properties)
    _stamp(found, properties.get("time"), _first(properties, "$insert_id"))
    return found


def _mixpanel_event(name: str, properties: dict[str, Any]) -> Messages:
    uid = _first(properties, "distinct_id", "$user_id", "$device_id")
    if name == "$create_alias":
        return [_alias(uid, properties.get("alias"))]
    if name == "$identify":
        return [_alias(_first(properties, "$identified_id"), properties.get("$anon_id"))]
    if name == "$merge":
        ids = _list(properties.get("$distinct_ids"))
        if len(ids) != 2:
            raise NotMappable("is a $merge without two $distinct_ids")
        return [_alias(*ids)]
    if uid is None:
        raise NotMappable("has no distinct_id")
    params = _without_internal(properties, "$", "mp_", names=("time", "token", "distinct_id"))
    if name == "$mp_web_page_view":
        url = _first(properties, "$current_url", "current_url_path") or properties.get("current_page_title")
        return [_pageview(uid, params, url, properties.get("ip"), None)]
    if name.startswith("$"):
        raise NotMappable(f'is "{name}", an internal event of Mixpanel without an equivalent')
    return [_event(uid, name, params)]


def _mixpanel_profile(record: Record) -> dict[str, Any]:
    properties = _object(record, "$properties") or {**_object(record, "$set_once"), **_object(record, "$set")}
    if not properties and not {"$properties", "$set", "$set_once"} & record.keys():
        raise NotMappable('has no "event" and no "$properties" or "$set"')
    params = {_MIXPANEL_NAMES.get(name, name): value for name, value in properties.items()}
    params = _without_internal(params, "$")
    if (group := _first(record, "$group_id")) is not None:
        return {"method": "account", "account_uid": group, "params": params}
    uid = _first(record, "$distinct_id")
    if uid is None:
        raise NotMappable("is a profile without $distinct_id and $group_id")
    return _contact(uid, params)


# Amplitude.


def _amplitude(record: Record) -> Messages:
    name = record.get("event_type")
    if not isinstance(name, str):
        raise NotMappable('has no "event_type"')
    found = [_amplitude_message(name, record)]
    _stamp(found, _amplitude_time(record), _first(record, "$insert_id", "insert_id", "uuid"))
    return found


def _amplitude_message(name: str, record: Record) -> dict[str, Any]:
    account = _single(_object(record, "groups"))
    if name == "$groupidentify":
        if account is None:
            raise NotMappable("is a $groupidentify without exactly one group")
        params = _amplitude_operations(_object(record, "group_properties"))
        return {"method": "account", "account_uid": account, "params": params}
    uid = _first(record, "user_id", "device_id")
    if uid is None:
        raise NotMappable("has neither user_id nor device_id")
    if name == "$identify":
        return _contact(uid, _amplitude_operations(_object(record, "user_properties")))
    params = _object(record, "event_properties")
    if account is not None:
        params.setdefault("account_uid", account)
    if name in ("[Amplitude] Page Viewed", "page_view"):
        url = _first(params, "[Amplitude] Page URL", "[Amplitude] Page Location", "page_url", "url")
        return _pageview(uid, params, url, _first(record, "ip_address", "ip"), record.get("user_agent"))
    return _event(uid, name, params)


def _amplitude_operations(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the properties that ``$set`` and ``$setOnce`` set, or plain ones."""
    operations = {name for name in properties if name.startswith("$")}
    if other := operations - {"$set", "$setOnce"}:
        raise NotMappable(f'changes properties with "{min(other)}", which has no equivalent')
    if not operations:
        return properties
    plain = _without_internal(properties, "$")
    return {**_object(properties, "$setOnce"), **plain, **_object(properties, "$set")}


def _amplitude_time(record: Record) -> Any:
    return _first(record, "event_time", "client_event_time", "time")


CONVERTERS: dict[str, Callable[[Record], Messages]] = {
    "segment": _segment,
    "posthog": _posthog,
    "mixpanel": _mixpanel,
    "amplitude": _amplitude,
    "rudderstack": _segment,
}


# Messages.


def _contact(uid: Any, params: dict[str, Any]) -> dict[str, Any]:
    return {"method": "contact", "contact_uid": uid, "params": params}


def _event(uid: Any, name: Any, params: dict[str, Any]) -> dict[str, Any]:
    return {"method": "event", "contact_uid": uid, "event_uid": name, "params": params}


def _pageview(uid: Any, params: dict[str, Any], url: Any, address: Any, agent: Any) -> dict[str, Any]:
    for name, value in (("visit_url", url), ("visit_ip", address), ("visit_agent", agent)):
        if value not in (None, ""):
            params.setdefault(name, value)
    return {"method": "pageview", "contact_uid": uid, "params": params}


def _alias(uid: Any, alias: Any) -> dict[str, Any]:
    if uid in (None, "") or alias in (None, ""):
        raise NotMappable("merges two ids, of which one is missing")
    return {"method": "alias", "contact_uid": uid, "alias": alias}


def _stamp(messages: Messages, created_at: Any, message_id: Any) -> None:
    """Set the time of all messages, and the id of the first."""
    for message in messages:
        if created_at is not None:
            message["created_at"] = created_at
    if message_id is not None and messages[0]["method"] != "alias":
        messages[0]["messageId"] = str(message_id)


# Values of records.


def _first(record: Record, *names: str) -> Any:
    """Return the first value that is neither missing nor empty."""
    return next((record[name] for name in names if record.get(name) not in (None, "")), None)


def _object(record: Record, name: str) -> dict[str, Any]:
    """
    Return a copy of an object; exports to tables hold it as a text of JSON.

    Raises:
        NotMappable: If it is something else.
    """
    found: Any = record.get(name)
    if isinstance(found, str) and found.lstrip().startswith("{"):
        try:
            found = orjson.loads(found)
        except orjson.JSONDecodeError:
            raise NotMappable(f"{name} is not JSON") from None
    if found is None or found == "":
        return {}
    if not isinstance(found, dict):
        raise NotMappable(f"{name} is not an object")
    return dict(cast("dict[str, Any]", found))


def _list(value: object) -> list[Any]:
    return list(cast("Any", value)) if isinstance(value, list) else []


def _single(groups: Mapping[str, Any]) -> Any:
    """Return the only group of an event; None if there is none or several."""
    values = list(groups.values())
    value: Any = values[0] if len(values) == 1 else None
    if isinstance(value, list):
        members = _list(cast("object", value))
        value = members[0] if len(members) == 1 else None
    return value if isinstance(value, str | int) and value != "" else None


def _without_internal(properties: Mapping[str, Any], *prefixes: str, names: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if not name.startswith(prefixes) and name not in names}
