"""Who gets what: the broker task, its commands, its index of subscriptions."""
