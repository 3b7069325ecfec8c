"""Drawings, tables and plots of nets, weights and training logs.

Modules:

    graph, layout, rows     a net as a graph of blocks, placed in ranks, folded into rows
    net_picture, canvas     draw it as SVG or PNG, for minicaffe.draw
    pydot_graph             pycaffe's graph of a net, for pydot
    shapes                  the shapes of a net's blobs, without building the net
    costs                   parameters, multiply-accumulates and memory of a net
    summary                 a net as a table
    parse_log               the values in training logs
    plot                    plots of training logs and of confusion matrices
    runs, ticks             names and colours of the runs in a plot; its grid and tick labels
    show                    plots of filters, weights, activations and of maps over an image
    attribution             class activation maps, Grad-CAM and saliency
"""
