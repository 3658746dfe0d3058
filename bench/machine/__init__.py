"""The machine: cores, threads, memory, devices, their rates, progress and interruption. Nothing here knows of cells."""
