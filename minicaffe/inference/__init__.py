"""Running trained nets on images: preprocessing from prototxts, streams of batches, predictions."""
