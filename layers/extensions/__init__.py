"""Layer types of forks of Caffe, under the names that they have there."""
