"""The I/O thread: one event loop that owns all sockets, and the waiting on what it records."""
