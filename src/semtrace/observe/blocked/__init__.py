"""What each thread is blocked on, and which can never go on."""
