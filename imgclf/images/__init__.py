"""Bytes to pixels: decoding, preprocessing, loading in threads, near-duplicates, alignment, thumbnails."""
