"""One module for each group of kinds of files; a `Kind` in one of them is found by `fuzz.kind.all_kinds`."""
