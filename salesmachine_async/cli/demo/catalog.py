"""Products, companies and sources of the shop and its simulated visitors."""

from typing import NamedTuple


class Product(NamedTuple):
    """A product."""

    name: str
    cents: int


PRODUCTS = {
    "brass-compass": Product("Brass compass", 3_900),
    "canvas-tent": Product("Canvas tent", 24_900),
    "enamel-mug": Product("Enamel mug", 1_250),
    "folding-saw": Product("Folding saw", 4_450),
    "headlamp": Product("Headlamp", 5_900),
    "rope-30m": Product("Rope, 30 m", 7_990),
    "storm-lantern": Product("Storm lantern", 6_400),
    "wool-blanket": Product("Wool blanket", 8_700),
}

COMPANIES = {
    "acme": "Acme",
    "globex": "Globex",
    "hooli": "Hooli",
    "initech": "Initech",
    "stark": "Stark Industries",
    "tyrell": "Tyrell",
    "umbrella": "Umbrella",
    "wayne": "Wayne Enterprises",
}

SOURCES = ("newsletter", "search", "friend", "advert")
