"""
The web shop of the demo: a small aiohttp application that tracks its visitors in its handlers.

The handlers show the calls that an application makes. Without a tracker the shop is the other side of the comparison.
"""

import dataclasses
import html
import itertools
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote_plus

from aiohttp import web

from salesmachine_async.cli.demo.catalog import COMPANIES, PRODUCTS

# Visits the shop remembers; the longest unseen one is forgotten first, so that its memory is bounded.
MAX_VISITS = 10_000
_COOKIE = "visit"


class TrackingCalls(Protocol):
    """The calls of ``salesmachine_async.Agent`` that the shop makes."""

    def contact(self, contact_uid: str, params: Mapping[str, Any]) -> bool: ...  # noqa: D102 - see Agent
    def account(self, account_uid: str, params: Mapping[str, Any]) -> bool: ...  # noqa: D102
    def track(self, contact_uid: str, event_uid: str, params: Mapping[str, Any]) -> bool: ...  # noqa: D102
    def pageview(self, contact_uid: str, params: Mapping[str, Any]) -> bool: ...  # noqa: D102
    def alias(self, contact_uid: str, alias: str) -> bool: ...  # noqa: D102


@dataclasses.dataclass(slots=True)
class Member:
    """A visitor who has signed up."""

    uid: str
    name: str
    company: str
    orders: int = 0
    spent_cents: int = 0


@dataclasses.dataclass(slots=True)
class ShopSession:
    """A browser with its cookie, anonymous until it signs up."""

    cookie: str
    user: Member | None = None
    cart: list[str] = dataclasses.field(default_factory=list[str])

    @property
    def anonymous_uid(self) -> str:
        """The contact_uid before the sign-up."""
        return f"anon-{self.cookie}"

    @property
    def uid(self) -> str:
        """The contact_uid now."""
        return self.user.uid if self.user else self.anonymous_uid


class Shop:
    """
    The shop: its state, and one handler for each page.

    Args:
        tracker: The tracker of the handlers; None for no tracking.
    """

    def __init__(self, tracker: TrackingCalls | None = None) -> None:
        self._agent = tracker
        self._visits: OrderedDict[str, ShopSession] = OrderedDict()
        self._members = dict.fromkeys(COMPANIES, 0)
        self._user_numbers = itertools.count(1)
        # Each event has a number "n", by which the comparison distinguishes lost and repeated events.
        self._event_numbers = itertools.count(1)

    def app(self) -> web.Application:
        """Return the application of the shop."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self.home),
                web.get("/products/{slug}", self.product),
                web.get("/signup", self.signup_form),
                web.post("/signup", self.signup),
                web.get("/cart", self.cart),
                web.post("/cart", self.add_to_cart),
                web.post("/checkout", self.checkout),
                web.get("/thanks", self.thanks),
            ]
        )
        return app

    async def home(self, request: web.Request) -> web.Response:
        """List all products."""
        items = "".join(f'<li><a href="/products/{slug}">{html.escape(p.name)}</a>' for slug, p in PRODUCTS.items())
        return self._page(request, "The outfitter", f"<ul>{items}</ul>")

    async def product(self, request: web.Request) -> web.Response:
        """Show one product."""
        slug = request.match_info["slug"]
        if (product := PRODUCTS.get(slug)) is None:
            raise web.HTTPNotFound
        form = f'<form method=post action=/cart><input type=hidden name=slug value="{slug}"><button>Add</button></form>'
        return self._page(request, product.name, f"<p>{_price(product.cents)}</p>{form}")

    async def signup_form(self, request: web.Request) -> web.Response:
        """Show the form for the sign-up."""
        fields = "".join(f"<input name={name}>" for name in ("name", "email", "company"))
        return self._page(request, "Sign up", f"<form method=post>{fields}<button>Join</button></form>")

    async def signup(self, request: web.Request) -> web.Response:
        """Make the visitor a member, and merge the anonymous contact into it."""
        form, visit = await request.post(), self._visit(request)
        name, email, company = str(form["name"]), str(form["email"]), str(form["company"])
        if company not in COMPANIES:
            raise web.HTTPBadRequest
        visit.user = user = Member(uid=f"user-{next(self._user_numbers)}", name=name, company=company)
        self._members[company] += 1
        if self._agent:
            self._agent.contact(user.uid, {"name": name, "email": email, "account_uid": company, "orders": 0})
            self._agent.alias(user.uid, visit.anonymous_uid)
            self._agent.account(company, {"name": COMPANIES[company], "user_count": self._members[company]})
            self._agent.track(
                user.uid,
                "user_registration",
                {"n": next(self._event_numbers), "account_uid": company, "display_name": "Registration"},
            )
        return self._see_other("/", visit)

    async def cart(self, request: web.Request) -> web.Response:
        """Show the cart."""
        slugs = self._visit(request).cart
        total = _price(sum(PRODUCTS[slug].cents for slug in slugs))
        items = "".join(f"<li>{html.escape(PRODUCTS[slug].name)}" for slug in slugs)
        form = "<form method=post action=/checkout><button>Buy</button></form>"
        return self._page(request, "Your cart", f"<ul>{items}</ul><p>{total}</p>{form}")

    async def add_to_cart(self, request: web.Request) -> web.Response:
        """Add a product to the cart."""
        form, visit = await request.post(), self._visit(request)
        slug = str(form["slug"])
        if (product := PRODUCTS.get(slug)) is None:
            raise web.HTTPBadRequest
        visit.cart.append(slug)
        if self._agent:
            self._agent.track(
                visit.uid,
                "cart_item_added",
                {"n": next(self._event_numbers), "product": slug, "price": product.cents / 100},
            )
        return self._see_other("/cart", visit)

    async def checkout(self, request: web.Request) -> web.Response:
        """Buy the content of the cart; only members can."""
        visit = self._visit(request)
        user = visit.user
        if user is None or not visit.cart:
            return self._see_other("/cart" if user else "/signup", visit)
        amount, items = sum(PRODUCTS[slug].cents for slug in visit.cart), len(visit.cart)
        visit.cart.clear()
        user.orders += 1
        user.spent_cents += amount
        if self._agent:
            self._agent.contact(user.uid, {"orders": user.orders, "spent": user.spent_cents / 100})
            self._agent.track(
                user.uid,
                "order_placed",
                {
                    "n": next(self._event_numbers),
                    "account_uid": user.company,
                    "display_name": f"{items} items for {_price(amount)}",
                    "amount": amount / 100,
                    "items": items,
                },
            )
        return self._see_other("/thanks", visit)

    async def thanks(self, request: web.Request) -> web.Response:
        """Thank for the order."""
        return self._page(request, "Thank you", '<p><a href="/">More?</a></p>')

    def _page(self, request: web.Request, title: str, body: str) -> web.Response:
        visit = self._visit(request)
        if self._agent:
            self._agent.pageview(
                visit.uid,
                {
                    "n": next(self._event_numbers),
                    "visit_url": request.path,
                    "visit_ip": request.remote or "",
                    "visit_agent": request.headers.get("User-Agent", ""),
                },
            )
        name = html.escape(visit.user.name) if visit.user else '<a href="/signup">Sign up</a>'
        text = f"<!doctype html><title>{html.escape(title)}</title><p>{name}</p><h1>{html.escape(title)}</h1>{body}"
        response = web.Response(text=text, content_type="text/html")
        response.set_cookie(_COOKIE, visit.cookie, httponly=True, samesite="Lax")
        return response

    def _visit(self, request: web.Request) -> ShopSession:
        cookie = request.cookies.get(_COOKIE, "")
        if (visit := self._visits.get(cookie)) is not None:
            self._visits.move_to_end(cookie)
            return visit
        return self._new_visit(request)

    def _new_visit(self, request: web.Request) -> ShopSession:
        visit = ShopSession(cookie=secrets.token_hex(8))
        self._visits[visit.cookie] = visit
        if len(self._visits) > MAX_VISITS:
            self._visits.popitem(last=False)
        if self._agent:
            source = request.query.get("utm_source", "direct")
            self._agent.contact(visit.anonymous_uid, {"landing_page": request.path, "source": source})
        return visit

    @staticmethod
    def _see_other(path: str, visit: ShopSession) -> web.Response:
        response = web.Response(status=303, headers={"Location": quote_plus(path, safe="/")})
        response.set_cookie(_COOKIE, visit.cookie, httponly=True, samesite="Lax")
        return response


def _price(cents: int) -> str:
    return f"{cents / 100:.2f}"
