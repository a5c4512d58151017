"""The options that all commands of the Access API have."""

from typing import Annotated, Literal

import typer

Auth = Annotated[
    Literal["basic", "bearer", "query"],
    typer.Option(
        envvar="SALESMACHINE_ACCESS_AUTH",
        help="How the v2 token is sent, which Salesmachine does not document: as the user name of HTTP Basic, "
        "as a bearer token, or as ?api_token=.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.1, max=86_400, help="How long to keep trying each request."),
]

DEFAULT_TIMEOUT = 10.0
