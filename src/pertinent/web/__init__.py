"""HTTP requests with limits on time, size and address, second tries, and chat endpoints: what any stage asks of a server."""
