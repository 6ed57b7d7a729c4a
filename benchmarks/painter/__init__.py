"""A stand-in for a person who paints in the web UI, and the pictures and figures of it."""
