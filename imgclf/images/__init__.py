"""Bytes to pixels: decoding, preprocessing, loading in threads, duplicates, thumbnails."""
