"""Named, seeded, resumable reproductions: the only way a number gets into the documentation."""
