"""VideoWithVoxelTruthData and VideoSegmentationData: videos with a truth for each voxel, from C3D's files."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.data.image_list import lines_of
from minicaffe.data.volumes import TruthRules, Volume, VolumeReader, VolumeTransformer
from minicaffe.layers.shared.list_data import ListData
from minicaffe.proto import TRAIN


@register("VideoWithVoxelTruthData")
class VideoWithVoxelTruthData(ListData):
    """The volumes in a text file of paths, endlessly: floats (C, L, H, W), whose last channels are the truth.

    Tops: videos (N, C - T, L, H, W) after transform_param; truths (N, T, L, H, W), cropped and mirrored alike.
    image_data_param: source, the list; batch_size (1); root_folder, the prefix of each path; shuffle (false; true: a
    new order in each pass over the list); rand_skip, start at a random line below it; num_truth_channels (1), T;
    truth_scale (1), the factor of the truth; is_flow (false; true: the truth is optical flow, whose first channel
    changes its sign where a video is mirrored).
    A file has five 32-bit numbers 1, C, L, H, W, then the values.
    Source: Tran et al., Deep End2End Voxel2Voxel Prediction, 2016.
    """

    fork = "C3D"
    param_field = "image_data_param"
    list_reader = VolumeReader
    of_bytes = False

    @classmethod
    def source_shapes(cls, layer_param):
        return [None] * len(layer_param.top)  # a file must be read for them

    def rules(self) -> TruthRules:
        """Return what becomes of the truth."""
        param = self.layer_param.image_data_param
        channels = self.positive("image_data_param.num_truth_channels", param.num_truth_channels)
        return TruthRules(channels, param.truth_scale, param.is_flow)

    def make_transformer(self):
        param, rules = self.layer_param.image_data_param, self.rules()
        _, line = next(lines_of(param.source))
        self.shape = Volume(param.root_folder + line.strip(), self.of_bytes).read().shape
        return VolumeTransformer(self.layer_param.transform_param, self.phase == TRAIN, self.rng, self.shape, rules)

    def reading(self):
        return {"of_bytes": self.of_bytes}

    def label_shapes(self, image):
        return [(image[0], self.rules().channels, *image[2:])]


@register("VideoSegmentationData")
class VideoSegmentationData(VideoWithVoxelTruthData):
    """The volumes in a text file of paths, endlessly: bytes (C, L, H, W), whose last channel is the truth.

    Tops: videos (N, C - 1, L, H, W) after transform_param; labels (N, 1, L, H, W), cropped and mirrored alike.
    image_data_param: as VideoWithVoxelTruthData's, without those of the truth.
    """

    of_bytes = True

    def rules(self):
        return TruthRules()
