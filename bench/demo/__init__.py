"""The pictures of the generated dataset: six products, their faults, a lamp and a camera.

`datasets/demo.py` writes and reads them.

Reading order: shots (one picture and its mask), optics (what pictures are made of), textures, objects and board (the
products), defects and marks (what is wrong with them).
"""
