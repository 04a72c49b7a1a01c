"""YOLOv5 in plain torch: network, loss, data, training and evaluation of a detector that can be split.

The law: written from published facts alone (architecture tables, formulas, hyper-parameters), with no
line of anybody else's code. Boxes are in pixels of the square network input unless a name says otherwise.
"""
