"""VideoData: clips of videos, with labels from a list; the layers of that name in five forks."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.data.clip_transformer import ClipTransformer
from minicaffe.data.clips import ClipReader, Clips, FrameReader
from minicaffe.data.shuffle import draw_order
from minicaffe.data.transformer import crop_of
from minicaffe.layers.shared.base_data import solver_share
from minicaffe.layers.shared.list_data import ListData
from minicaffe.layers.shared.words import batch_words
from minicaffe.proto import TRAIN
from minicaffe.proto.caffe_pb2 import VideoDataParameter

_C3D = ("use_image", "use_temporal_jitter", "sampling_rate", "max_sampling_rate", "use_sampling_rate_jitter",
        "use_multiple_label", "show_data")  # fmt: skip


@register("VideoData")
class VideoData(ListData):
    """The clips of the videos in a text file, endlessly.

    Tops: clips (N, C, L, H, W), channels in the order blue, green, red, after transform_param, whose crop and mirroring
    are one for all frames of a clip; labels (N,).
    video_data_param: source, the list; batch_size (1); new_length (1), the frames L of a clip; root_folder, the prefix
    of each path; new_height and new_width, the size to resize to, both or none; is_color (true); shuffle (false; true:
    a new order in each pass over the list); rand_skip, start at a random line below it.

    video-caffe and R-C3D: lines are "path first label"; a path is a folder of frames image_0001.jpg, ..., or a file.
    C3D, with any of its fields: a folder has frames 000001.jpg, ... (use_image); the first frame of a file is 0.
    sampling_rate (1): the distance between frames; use_sampling_rate_jitter: from 1 to max_sampling_rate, at random.
    use_temporal_jitter: clips begin anywhere in TRAIN; lines are "folder frames label", without use_image "file label".
    use_multiple_label: labels are such as "1,4"; top 1 is (N, num_of_labels) of 0 and 1.
    TSN, with num_segments or modality: lines are "folder frames label".  Of each of num_segments (1) equal parts a clip
    is read, at a random place in TRAIN and in the middle in TEST; top 0 is (N, num_segments L C, H, W).  modality FLOW:
    C is 2, flow_x_0001.jpg, ... and flow_y_0001.jpg, ...; RGB: image_0001.jpg, ..., grayscale: C is 1.
    name_pattern: other names of frames, such as "img_%05d.jpg" or "flow_%c_%05d.jpg".
    SSD, with video_file: the frames of one file, (N, C, H, W), of data_param's batch_size; skip_frames (0) are left out
    before each; labels are 0.

    Files are GIF, TIFF and other images with several frames; with opencv-python installed also what OpenCV decodes.
    """

    fork = "video-caffe, R-C3D, C3D, TSN, SSD"
    param_field = "video_data_param"
    more_params = ("transform_param", "data_param")
    min_top = 1
    max_top = 2
    exact_num_top = None
    list_reader = ClipReader

    @classmethod
    def describe(cls, layer_param):
        one_file = _is_ssd(layer_param.video_data_param)
        return batch_words(layer_param.data_param if one_file else layer_param.video_data_param)

    @classmethod
    def source_shapes(cls, layer_param):
        param, common = layer_param.video_data_param, layer_param.transform_param
        clips, one_file = clips_of(param, False), _is_ssd(param)
        batch = layer_param.data_param.batch_size if one_file else param.batch_size
        sides = [own or new for own, new in zip(crop_of(common), (param.new_height, param.new_width))]
        frames = clips.length * max(1, clips.segments)
        planes = [clips.channels * frames] if clips.segments or one_file else [clips.channels, frames]
        clip = (batch, *planes, *sides) if batch and all(sides) else None
        label = (batch, clips.labels) if clips.labels else (batch,)
        return [clip, label if batch else None][: len(layer_param.top)]

    def warn_of_old_fields(self, param):
        """Warn of nothing: the message has no such fields."""

    def make_transformer(self):
        param, train = self.layer_param.video_data_param, self.phase == TRAIN
        for name in ("new_length", "num_segments", "sampling_rate", "max_sampling_rate", "num_of_labels"):
            self.positive(f"video_data_param.{name}", getattr(param, name))
        self.clips = clips_of(param, train)
        frames, by_frame = self.clips.length * max(1, self.clips.segments), self.clips.segments > 0 or _is_ssd(param)
        return ClipTransformer(self.layer_param.transform_param, train, self.rng, self.clips.channels, frames, by_frame)

    def open_reader(self):
        param = self.layer_param.video_data_param
        if _is_ssd(param):
            return self._open_file(param)
        if not param.source:
            raise self.error("video_data_param must have a source, the list of videos")
        return super().open_reader()

    def reading(self):
        return {"clips": self.clips, "seed_of_frames": draw_order(self.rng) if self.clips.draws else 0}

    def _open_file(self, param):
        if param.video_type == param.WEBCAM or not param.video_file:
            raise self.error("a camera cannot be read: write video_type: VIDEO, and video_file")
        batch_size = self.positive("data_param.batch_size", self.layer_param.data_param.batch_size)
        share = solver_share(self.phase)
        return FrameReader(param.video_file, batch_size, param.skip_frames, self.clips, share)

    def label_shapes(self, image):
        labels = self.clips.labels
        return [(image[0], labels) if labels else (image[0],)]


def _is_ssd(param: VideoDataParameter) -> bool:
    return any(param.HasField(name) for name in ("video_type", "video_file", "device_id", "skip_frames"))


def clips_of(param: VideoDataParameter, train: bool) -> Clips:
    """Return how clips are read, by the fork whose fields are given."""
    if _is_ssd(param):
        return Clips(1)
    if param.HasField("num_segments") or param.HasField("modality"):
        flow = param.modality == param.FLOW
        pattern = param.name_pattern or ("flow_%c_%04d.jpg" if flow else "image_%04d.jpg")
        planes, color = "xy" if flow else "", not param.grayscale
        return Clips(param.new_length, color, segments=param.num_segments, random=train, pattern=pattern, planes=planes)
    if not any(param.HasField(name) for name in _C3D):
        return Clips(param.new_length, param.is_color, pattern=param.name_pattern or "image_%04d.jpg")
    return Clips(
        param.new_length,
        param.is_color,
        param.sampling_rate,
        param.max_sampling_rate if param.use_sampling_rate_jitter else 0,
        jitter=param.use_temporal_jitter,
        random=train,
        pattern=param.name_pattern or "%06d.jpg",
        first=1 if param.use_image else 0,
        labels=param.num_of_labels if param.use_multiple_label else 0,
        folders=param.use_image,
    )
