"""What a person would rather see than read.

Its files:

    graph, layout, canvas   a net as SVG or PNG, for minicaffe.draw
    pydot_graph             the same for pydot, as pycaffe draws it
    shapes                  the shapes of a net's blobs, without building it where that is enough
    summary                 a net as a table
    plot                    training logs as curves, a confusion matrix
    show                    filters, weights and activations
"""
