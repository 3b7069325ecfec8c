"""Images with boxes: annotation files of several kinds, and the records of SSD's databases."""
