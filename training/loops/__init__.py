"""Training loops: one file each, resumable and seeded."""
