"""MatWrite: writes its bottoms to MATLAB files."""

from minicaffe.core.registry import register
from minicaffe.data.mat_file import write_mat
from minicaffe.errors import DataError, LayerError
from minicaffe.layers.shared.passes import CountsPasses
from minicaffe.text import read_text


@register("MatWrite")
class MatWrite(CountsPasses):
    """Writes each bottom to a MATLAB file, at every `period`-th forward pass, the first included.

    Bottoms: one or more, (N, C, H, W); in MATLAB the array "data", W x H x C x N.  No top.
    mat_write_param: prefix, what the files' names begin with; source, a list whose first words are the names of the
    passes (default: iter_ and the number of the pass), without the last `strip` (0) characters; period (1).  A file is
    prefix, name of the pass, "_blob_", number of the bottom, ".mat".  The folder must exist.  When the list has no more
    names, or a file cannot be written, DataError.
    Source: Chen et al., DeepLab, 2014.
    """

    fork = "DeepLab"
    family = "data"
    min_bottom = 1
    exact_num_top = 0
    capturable = False  # writes on the host
    repeatable = False
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.mat_write_param
        if not param.prefix or param.period < 1 or param.strip < 0:
            raise self.error(
                f"mat_write_param must have a prefix, a period of at least 1 and a strip of at least 0, got "
                f"{param.prefix!r}, {param.period} and {param.strip}"
            )
        self.names = self._listed() if param.source else None

    def _listed(self):
        lines = read_text(self.param.source, "list of names", LayerError).split("\n")
        names = [line.split()[0] for line in lines if line.strip()]
        if short := next((name for name in names if len(name) <= self.param.strip), ""):
            raise self.error(f"strip must be less than the length of each name, got {self.param.strip} for {short}")
        return [name[: len(name) - self.param.strip] for name in names]

    def top_shapes(self, bottom_shapes):
        return []

    def forward_cpu(self, bottom, top):
        if self.passes % self.param.period == 0:
            for i, blob in enumerate(bottom):
                write_mat(f"{self.param.prefix}{self._name()}_blob_{i}.mat", blob.read_data())
        self.passes += 1

    def forward_gpu(self, bottom, top):
        self.forward_cpu(bottom, top)

    def backward_cpu(self, top, propagate_down, bottom):
        """No-op: the bottoms get no gradient."""

    def backward_gpu(self, top, propagate_down, bottom):
        """No-op: the bottoms get no gradient."""

    def _name(self) -> str:
        if self.names is None:
            return f"iter_{self.passes}"
        if self.passes >= len(self.names):
            raise DataError(f"MatWrite layer '{self.name}': {self.param.source} has no name for pass {self.passes + 1}")
        return self.names[self.passes]
