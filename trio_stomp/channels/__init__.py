"""The bounded places where work waits: pools of threads, inboxes, outboxes."""
