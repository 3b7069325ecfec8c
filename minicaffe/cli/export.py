"""`minicaffe export`: write a net and its weights for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.shared_flags import (
    built_net,
    need_file,
    need_writable,
    python_layer_flags,
    python_layers_of,
    stages,
    state_flags,
    weight_files,
)
from minicaffe.errors import ExportError, UsageError
from minicaffe.proto import TEST

if TYPE_CHECKING:
    from minicaffe.core.net import Net
    from minicaffe.export.onnx.checking import Arrays, Check

_LIMIT = 1e-4  # of the relative difference, for the exit status of --check

_EXAMPLES = """
  minicaffe export deploy.prototxt net.caffemodel net.onnx --check
  minicaffe export deploy.prototxt net.caffemodel net.onnx --fold \\
      --with-preprocessing=train_val.prototxt --check=cat.jpg
  minicaffe export deploy.prototxt net.caffemodel net.safetensors
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.section("what to export")
    flags.argument("model", metavar="MODEL", help="the net's prototxt; its layers in TEST are exported")
    flags.argument("weights", metavar="WEIGHTS", help="its .caffemodel files, comma-separated")
    flags.argument("output", metavar="OUT", help="the file to write: .onnx, or .safetensors for the weights alone")
    state_flags(flags)
    python_layer_flags(flags)
    flags.section("what to put into the ONNX graph")
    flags.switch("fold", "fold BatchNorm, Scale and Bias into weights first, as `minicaffe fold` does")
    flags.flag("with-preprocessing", nargs="?", const="", metavar="FILE",
               help="crop, mean and scale of the data layer or preprocess block in MODEL, or in another "
                    "prototxt")  # fmt: skip
    flags.switch("rgb", "with --with-preprocessing: the graph's input has its channels in the order RGB, not BGR")
    flags.section("what to compare")
    flags.flag("check", nargs="?", const="", metavar="FILE",
               help="run onnxruntime before the file is written, on random inputs or on an image or .npy FILE, and "
                    "print the largest difference of each output")  # fmt: skip


@command("export", "Take nets elsewhere", "write a net as ONNX, or its weights as safetensors", _flags, _EXAMPLES)
def export(args: argparse.Namespace) -> None:
    """Data layers become inputs; losses and Accuracy are left out.  All layers that ONNX cannot express are listed in
    one sentence, and nothing is written.

    Names of blobs are kept.  The batch size is free where the layers allow it; where it is fixed, a line gives the
    reason.  With --check nothing is written if an output differs by more than 1e-4 of its largest value.
    """
    need_file(args.model, "MODEL", "a model definition")
    files = weight_files(args.weights, "WEIGHTS")
    is_onnx = _is_onnx(args)
    if args.check:
        need_file(args.check, "--check", "an image or an array")
    need_writable(args.output)
    with python_layers_of(args):
        from minicaffe.files import write_atomically

        net = built_net(args, TEST, files)
        if args.fold:
            from minicaffe.export.fold import fold

            net = fold(net).net
        data = _onnx(net, args) if is_onnx else _safetensors(net)
        write_atomically(args.output, data, ExportError)
    print_line(f"wrote {args.output}: {len(data):,} bytes")


def _is_onnx(args: argparse.Namespace) -> bool:
    """Whether the output is ONNX; UsageError for a format that is not known, and for flags that do not apply."""
    if args.output.endswith(".safetensors"):
        for name in ("with_preprocessing", "rgb", "check"):
            if getattr(args, name) not in (None, False):
                raise UsageError(f"--{name.replace('_', '-')} applies to ONNX, but '{args.output}' is .safetensors")
        return False
    if not args.output.endswith(".onnx"):
        raise UsageError(f"export: expected a file that ends in .onnx or .safetensors, got '{args.output}'")
    if args.rgb and args.with_preprocessing is None:
        raise UsageError("--rgb is a part of the preprocessing: give --with-preprocessing as well")
    return True


def _safetensors(net: Net) -> bytes:
    from minicaffe.export.safetensors import to_safetensors

    return to_safetensors(net)


def _onnx(net: Net, args: argparse.Namespace) -> bytes:
    """Return the content of the ONNX file, checked if --check is given."""
    from minicaffe.export.onnx.model import to_model

    preprocessing = _preprocessing(net, args)
    exported = to_model(net, preprocessing)
    for each in exported.model.graph.input:
        print_line(f"input   {each.name} {_shape(each)}")
    for each in exported.model.graph.output:
        print_line(f"output  {each.name} {_shape(each)}")
    for (name, axis), reason in exported.fixed.items():
        print_line(f"axis {axis} of {name} is fixed at {exported.net.blobs[name].shape[axis]}: {reason}")
    if args.check is not None:
        from minicaffe.export.onnx.checking import Check

        _compare(Check(exported, preprocessing), args.check)
    return exported.model.SerializeToString()


def _preprocessing(net: Net, args: argparse.Namespace) -> dict[str, Any]:
    if args.with_preprocessing is None:
        return {}
    from minicaffe.export.onnx.preprocessing import of_net
    from minicaffe.inference.blocks import read_param

    path = need_file(args.with_preprocessing or args.model, "--with-preprocessing", "a prototxt")
    sources = [tops for tops, bottoms in zip(net.names_of_tops, net.names_of_bottoms) if not bottoms]
    images = [name for tops in sources for name in tops if net.blobs[name].num_axes == 4]
    made = of_net(read_param(path, args.level, stages(args)), images, args.rgb)
    for name, each in made.items():
        print_line(f"preprocessing of {name} ({each.origin} of {path}): {each.describe(net.blobs[name].shape)}")
    return made


def _shape(value: Any) -> str:
    """Format the shape of an input or output: (N, 3, 32, 32)."""
    if not value.type.tensor_type.HasField("shape"):
        return "of a shape that depends on values"
    dims = value.type.tensor_type.shape.dim
    return f"({', '.join(dim.dim_param or str(dim.dim_value) for dim in dims)})"


def _compare(check: Check, path: str) -> None:
    """Print the differences; ExportError if one is above the limit."""
    worst = 0.0
    for inputs in _given(check, path) if path else check.random_inputs():
        sizes = ", ".join(f"{name} {values.shape}" for name, values in inputs.items())
        print_line(f"onnxruntime on {path or 'random values'}, {sizes}:")
        for each in check.run(inputs):
            print_line(
                f"  {each.output} {each.shape}: largest difference {each.largest:.2g}, relative {each.relative:.2g}"
            )
            worst = max(worst, each.relative)
    if not worst <= _LIMIT:
        raise ExportError(f"an output differs by {worst:.2g} of its largest value, more than {_LIMIT:g}: not written")


def _given(check: Check, path: str) -> Iterator[Arrays]:
    """Yield the inputs in a file: an .npy of the first input's values, or an image of its size."""
    from minicaffe.data.arrays import read_array
    from minicaffe.data.image import read_image

    name, *others = check.exported.net.inputs
    if others:
        raise UsageError(f"--check FILE: the net has {1 + len(others)} inputs, a file is for one")
    values = read_array(path) if path.endswith(".npy") else read_image(path)[None]
    if name in check.preprocessing and check.preprocessing[name].reverses_channels and not path.endswith(".npy"):
        values = values[:, ::-1]
    yield {name: values.astype("float32")}
