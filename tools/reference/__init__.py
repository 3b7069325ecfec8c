"""The pages of docs/reference, made from the code; tools/write_reference.py writes them."""
