"""Find what each thread is blocked on, and which threads are stuck."""
