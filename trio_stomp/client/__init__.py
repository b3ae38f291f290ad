"""The client: a STOMP connection as async context managers and iterators."""
