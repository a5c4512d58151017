"""The options that all commands which send have."""

from typing import Annotated

import typer

Params = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME=TEXT", help="Params: text with =, JSON with := (mrr:=99, vip:=true)."),
]
Document = Annotated[
    str | None,
    typer.Option(
        "--params",
        metavar="JSON|@FILE|-",
        help="A JSON object of params, from a file or stdin too; NAME=… wins.",
    ),
]
CreatedAt = Annotated[
    str | None, typer.Option("--created-at", metavar="TIME", help="When it happened, ISO 8601; default: now.")
]
MessageId = Annotated[
    str | None,
    typer.Option("--message-id", metavar="ID", help="Its id, to send the same message again; default: a new one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.1, max=86_400, help="How long to keep trying before giving up."),
]

DEFAULT_TIMEOUT = 10.0
