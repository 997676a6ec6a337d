"""Bytes and values: errors, events, records, matching, rendering. No socket, clock or thread."""
