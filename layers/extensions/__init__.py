"""Layer types beyond the master branch, under the names that the forks gave them."""
