"""The processes of one server under watch, and their semaphores as they are read."""
