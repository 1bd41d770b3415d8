"""What is asked of a running gateway from outside: by a technician at its socket, from the command line."""
