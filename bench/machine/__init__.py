"""What of the machine this process has: processor cores, threads, control groups. Nothing here knows of cells."""
