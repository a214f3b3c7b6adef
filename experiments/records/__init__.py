"""What a run leaves behind: interval tables, journals, hashes, provenance, trackers."""
