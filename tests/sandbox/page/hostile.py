"""Hostile texts for everything that displays messages."""

from __future__ import annotations

MARKUP = "<img src=x onerror=\"window.__hit=1\"><svg onload='window.__hit=1'>"
SCRIPT = "</script></style></textarea><script>window.__hit=1</script>"
TURNED = "abc\u202e\u2066gnp.exe\u2069\u200f"
LONG = "x" * 10_000
WIDE = "\ufdfd" * 200 + "W" * 300 + "Z\u0351\u036b\u0343" * 50
NUL = "a\0b\x1b[31m\r\n\tc\x7f\x85"
LONE = "\U0001f4a5"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\ufe0f"
TAGS = "\U000e0041\U000e0042\ufeff\u2028\u2029"
PROTO = "__proto__"
ADDRESS = "javascript:window.__hit=1"
DATA = "data:text/html,<script>window.__hit=1</script>"
QUOTES = "'\"`$(touch /tmp/hit)${HOME}\\'; --' \\u0041 \\U0001f4a5 {{7*7}} %s !! \\"
TEMPLATE = "constructor"
EXPRESSION = "1;window.__hit=1//"

TEXTS = (
    MARKUP,
    SCRIPT,
    TURNED,
    LONG,
    WIDE,
    NUL,
    LONE,
    FAMILY,
    TAGS,
    PROTO,
    ADDRESS,
    DATA,
    QUOTES,
    TEMPLATE,
    EXPRESSION,
    ".",
    "..",
    "../../x?y#z%00",
    "@/etc/passwd",
)


def params(text: str) -> dict[str, object]:
    """Params with *text* as a key, as a value and nested, beside values that programs often corrupt."""
    return {
        text: text,
        PROTO: {PROTO: text},
        "deep": [[{text: [text, None, True, {}, []]}]],
        "big": 12345678901234567890,
        "exact": 1.0,
        "small": -0.0,
        "long": 0.1,
    }
