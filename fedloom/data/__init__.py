"""Pictures with boxes: reading folders in COCO128's format, and making them.

The law: files in, plain arrays out; what is wrong with a file is named, never passed over. It knows no
job and no network. pillow has its door in `pictures.py`.
"""
