"""REST: the interface of 2016 over the message-driven core."""
