"""The page at `/`: what the sandbox holds, live, in a browser. Static files; all it knows it asks the control API."""
