"""The shop, and what it tracks."""

from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from salesmachine_async.cli.demo import shop as shop_module
from salesmachine_async.cli.demo.shop import Shop

ADA = {"name": "Ada <3", "email": "ada@acme.example", "company": "acme"}


class Recording:
    """A tracker that records the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def _add(self, *call: Any) -> bool:
        self.calls.append(call)
        return True

    def contact(self, contact_uid: str, params: Mapping[str, Any]) -> bool:
        return self._add("contact", contact_uid, dict(params))

    def account(self, account_uid: str, params: Mapping[str, Any]) -> bool:
        return self._add("account", account_uid, dict(params))

    def track(self, contact_uid: str, event_uid: str, params: Mapping[str, Any]) -> bool:
        return self._add(event_uid, contact_uid, dict(params))

    def pageview(self, contact_uid: str, params: Mapping[str, Any]) -> bool:
        return self._add("pageview", contact_uid, dict(params))

    def alias(self, contact_uid: str, alias: str) -> bool:
        return self._add("alias", contact_uid, alias)


def browser(tracker: Recording | None = None) -> Any:
    return TestClient(TestServer(Shop(tracker).app()), cookie_jar=CookieJar(unsafe=True))


async def test_a_purchase_is_tracked() -> None:
    """A visitor is an anonymous contact at first, then a member with the events before."""
    tracker = Recording()
    async with browser(tracker) as client:
        await client.get("/?utm_source=friend", headers={"User-Agent": "Lynx"})
        await client.post("/cart", data={"slug": "enamel-mug"}, allow_redirects=False)
        await client.post("/cart", data={"slug": "headlamp"}, allow_redirects=False)
        await client.post("/signup", data=ADA, allow_redirects=False)
        answer = await client.post("/checkout", allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/thanks")
    anonymous = tracker.calls[0][1]
    assert anonymous.startswith("anon-")
    assert tracker.calls == [
        ("contact", anonymous, {"landing_page": "/", "source": "friend"}),
        ("pageview", anonymous, {"n": 1, "visit_url": "/", "visit_ip": "127.0.0.1", "visit_agent": "Lynx"}),
        ("cart_item_added", anonymous, {"n": 2, "product": "enamel-mug", "price": 12.5}),
        ("cart_item_added", anonymous, {"n": 3, "product": "headlamp", "price": 59.0}),
        (
            "contact",
            "user-1",
            {"name": "Ada <3", "email": "ada@acme.example", "account_uid": "acme", "orders": 0},
        ),
        ("alias", "user-1", anonymous),
        ("account", "acme", {"name": "Acme", "user_count": 1}),
        ("user_registration", "user-1", {"n": 4, "account_uid": "acme", "display_name": "Registration"}),
        ("contact", "user-1", {"orders": 1, "spent": 71.5}),
        (
            "order_placed",
            "user-1",
            {"n": 5, "account_uid": "acme", "display_name": "2 items for 71.50", "amount": 71.5, "items": 2},
        ),
    ]


async def test_untracked_shop_is_the_same_shop() -> None:
    """Without a tracker every page looks the same, and forms lead to the same places."""
    texts: list[list[str]] = []
    for tracker in (None, Recording()):
        seen: list[str] = []
        async with browser(tracker) as client:
            for path in ("/", "/products/rope-30m", "/signup", "/cart", "/thanks"):
                answer = await client.get(path)
                assert answer.status == 200
                seen.append(await answer.text())
            for path, form in (("/cart", {"slug": "rope-30m"}), ("/signup", ADA), ("/checkout", {})):
                answer = await client.post(path, data=form)
                seen.append(f"{answer.url.path} {await answer.text()}")
        texts.append(seen)
    assert texts[0] == texts[1]
    assert "Rope, 30 m" in texts[0][1]
    assert "Ada &lt;3" in texts[0][-1]


async def test_checkout_without_user_or_cart() -> None:
    """Unknown visitors are sent to the sign-up, members with an empty cart to the cart; no order is tracked."""
    tracker = Recording()
    async with browser(tracker) as client:
        answer = await client.post("/checkout", allow_redirects=False)
        assert answer.headers["Location"] == "/signup"
        await client.post("/signup", data=ADA)
        answer = await client.post("/checkout", allow_redirects=False)
        assert answer.headers["Location"] == "/cart"
    assert "order_placed" not in {call[0] for call in tracker.calls}


@pytest.mark.parametrize(
    ("method", "path", "form", "status"),
    [
        ("GET", "/products/unknown", None, 404),
        ("POST", "/cart", {"slug": "unknown"}, 400),
        ("POST", "/signup", {**ADA, "company": "unknown"}, 400),
    ],
)
async def test_nonsense_is_refused(method: str, path: str, form: dict[str, str] | None, status: int) -> None:
    """Unknown products and companies are errors."""
    async with browser() as client:
        answer = await client.request(method, path, data=form)
        assert answer.status == status


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used session is dropped: its browser is a new visitor."""
    monkeypatch.setattr(shop_module, "MAX_VISITS", 2)
    tracker = Recording()
    server = TestServer(Shop(tracker).app())
    async with TestClient(server, cookie_jar=CookieJar(unsafe=True)) as first:
        await first.get("/")
        for _ in range(2):
            async with browser_of(server) as other:
                await other.get("/")
        await first.get("/")
    assert len({call[1] for call in tracker.calls}) == 4


def browser_of(server: Any) -> Any:
    import aiohttp

    return aiohttp.ClientSession(base_url=server.make_url("/"), cookie_jar=CookieJar(unsafe=True))
