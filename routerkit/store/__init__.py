"""Where state lives that is not this process's memory alone."""
