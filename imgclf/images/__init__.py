"""Bytes to pixels: decoding, preprocessing, loading in threads, near-duplicates, thumbnails."""
