"""What policies share that act on a window of the recent past and may be told a goal."""
