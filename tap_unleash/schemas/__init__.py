"""JSON schemas of the streams."""
