"""Serves the FastAPI example as a server does that knows no lifespan and ends in an orderly way."""

import signal

import uvicorn

from examples.fastapi_app import app

# uvicorn raises the signal again once it is done; an orderly end lets Python run to its exit.
signal.signal(signal.SIGTERM, lambda *_: None)
uvicorn.run(app, port=0, lifespan="off")
