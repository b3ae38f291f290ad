"""The server: the front door, sessions, dispatch, heart-beats, and the life cycle that joins them."""
