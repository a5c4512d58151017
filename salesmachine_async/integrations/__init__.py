"""The agent at home in web frameworks and telemetry: one module for each, which alone imports it."""
