"""The stress test: load at a constant rate, a sweep over pool sizes, and what is to be learnt from it.

It stands apart from the server that it tests: it speaks to it over WebSockets and reads its ``/metrics``.
"""
