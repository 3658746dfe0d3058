"""A cell from plan to record; read `cell.py` first."""
