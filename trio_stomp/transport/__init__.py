"""Bytes in and out: HTTP heads, streams with deadlines, the WebSocket. Knows STOMP, not sessions."""
