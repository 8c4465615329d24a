"""Since when it has been so: of holders, waiters, sleeping threads and ended processes."""
