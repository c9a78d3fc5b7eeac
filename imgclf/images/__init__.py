"""Bytes to pixels: decoding, preprocessing, loading in threads, near-duplicates, altered copies, thumbnails."""
