"""kill -9, full disks and read-only files: what they do to a run."""
