"""The page at `/`: a live view of the sandbox. Static files that use the control endpoints."""
