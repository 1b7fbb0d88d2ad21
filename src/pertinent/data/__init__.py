"""Data: what a stranger's files hold, read, checked and split by query into the canonical dataset folder."""
