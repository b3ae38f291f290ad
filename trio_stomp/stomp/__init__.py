"""STOMP itself, sans-I/O: frames, the two state machines, destinations."""
