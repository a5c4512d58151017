"""The Celery example, with the settings of the test."""

from importlib import import_module

# Not imported by name: Celery has no types.
app = import_module("examples.celery_worker").app
app.config_from_object("celeryconfig")
