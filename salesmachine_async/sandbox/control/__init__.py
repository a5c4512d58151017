"""The control endpoints, `/_sandbox/…`: inspection, waiting, live updates, export and replay."""
