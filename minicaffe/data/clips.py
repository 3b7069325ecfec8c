"""Lists of videos, and the clips that are read from them, for VideoData.

A clip is an array (C, H, W) while it is read and transformed: the planes of its frames are its channels.
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import numpy as np

from minicaffe import saved
from minicaffe.data.image import resize
from minicaffe.data.image_list import ImageListReader, int32, lines_of
from minicaffe.data.reader import Share
from minicaffe.data.video import FrameFolder, video_file
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.text import quoted

_LABELS = re.compile(r"\d+(,\d+)*,?", re.ASCII)


class Clips(NamedTuple):
    """How clips are read.

    length: frames of a clip, or of a segment.  color: whether they have three channels and not one.
    step: the distance between frames; most_steps: if not 0, it is drawn for each clip, from 1 to this.
    segments: 0: a clip begins at the frame that its line names.  Else the line names the number of frames, and of each
    of as many equal parts a clip is read, in the middle, or if `random` anywhere.
    jitter: a clip begins at the first frame, or if `random` anywhere; a line names the number of frames of a folder,
    and of a file nothing.
    pattern, planes: as of `FrameFolder`.  first: the number of a video's first frame in a list.
    labels: if not 0, a line ends in several labels, which become a vector of 0 and 1 of this length.
    folders: whether lines are those of folders where that makes a difference.
    """

    length: int
    color: bool = True
    step: int = 1
    most_steps: int = 0
    segments: int = 0
    jitter: bool = False
    random: bool = False
    pattern: str = "image_%04d.jpg"
    planes: str = ""
    first: int = 1
    labels: int = 0
    folders: bool = False

    @property
    def channels(self) -> int:
        """The number of planes of a frame."""
        return len(self.planes) or (3 if self.color else 1)

    @property
    def draws(self) -> bool:
        """Whether the frames of a clip are random."""
        return self.random and (self.jitter or self.segments > 0) or self.most_steps > 0

    @property
    def words(self) -> int:
        """The number of words in a line of the list."""
        return 2 if self.jitter and not self.folders else 3

    def frames(self, number: int, count: int, generator: np.random.Generator) -> list[int]:
        """Return the numbers of a clip's frames.

        number: that of the line.  count: the frames of the video, if they are known, or 0.
        """
        if self.segments:
            return self._of_segments(number, generator)
        step = int(generator.integers(1, self.most_steps, endpoint=True)) if self.most_steps else self.step
        if self.jitter:
            room = (count or number) - self.length * step
            if room < 0:
                raise DataError(f"{count or number} frames are too few for {self.length} at a distance of {step}")
            number = self.first + (int(generator.integers(room, endpoint=True)) if self.random else 0)
        return [number + step * i for i in range(self.length)]

    def _of_segments(self, count: int, generator: np.random.Generator) -> list[int]:
        part, frames = count // self.segments, []
        for i in range(self.segments):
            room = part - self.length
            if room < 0:
                begin = 0
            elif self.random:
                begin = i * part + int(generator.integers(room, endpoint=True))
            else:
                begin = i * part + (room + 1) // 2
            frames += [self.first + begin + k for k in range(self.length)]
        return frames


class Clip(NamedTuple):
    """A clip before it is read."""

    path: str
    number: int
    rules: Clips
    seed: int
    record: int  #: its place in the endless sequence of clips
    size: tuple[int, int] | None

    def pixels(self) -> np.ndarray:
        """Read, decode and resize the frames; (C, H, W), with the channels as `Clips` orders them.

        DataError when a frame cannot be read, and for frames of different sizes.
        """
        rules, generator = self.rules, Stream(self.seed, self.record).generator()
        try:
            if rules.planes or os.path.isdir(self.path):
                numbers = rules.frames(self.number, 0, generator)
                frames = FrameFolder(self.path, rules.pattern, rules.planes).read(numbers, rules.color)
            else:
                file = video_file(self.path)
                numbers = rules.frames(self.number, file.count() if rules.jitter else 0, generator)
                frames = file.read([number - rules.first for number in numbers], rules.color)
        except DataError as error:
            raise DataError(f"video {self.path}: {error.args[0]}") from error
        if self.size:
            frames = [resize(frame, *self.size) for frame in frames]
        if len({frame.shape for frame in frames}) > 1:
            raise DataError(f"video {self.path}: its frames differ in size: give new_height and new_width")
        if rules.segments:
            return np.concatenate(frames)
        return np.stack(frames, 1).reshape(-1, *frames[0].shape[1:])


class ClipReader(ImageListReader):
    """Endless reader of batches of clips of the videos in a list.

    clips: how they are read.  seed_of_frames: determines all random frames.  Other arguments as of `ImageListReader`.
    """

    def __init__(self, *args: Any, clips: Clips, seed_of_frames: int, **options: Any) -> None:
        self.clips, self.seed_of_frames = clips, seed_of_frames
        super().__init__(*args, **options)

    def read_entries(self) -> list[tuple[str, Any]]:
        return [self._entry(line, where) for where, line in lines_of(self.source)]

    def _entry(self, line: str, where: str) -> tuple[str, Any]:
        """Return the path of a line, and its number (0 if it has none) with its label; DataError for another line."""
        path, *others = line.rstrip().rsplit(" ", self.clips.words - 1)
        try:
            if len(others) != self.clips.words - 1 or not path.strip():
                raise ValueError(line)
            number = int32(others[0], f"{where}: number") if len(others) > 1 else 0
            return path.strip(), (number, self._label(others[-1], where))
        except ValueError:
            expected = '"path number label"' if self.clips.words > 2 else '"path label"'
            raise DataError(f"{where}: expected {expected} with whole numbers, got {quoted(line)}") from None

    def _label(self, text: str, where: str) -> Any:
        if not self.clips.labels:
            return int32(text, f"{where}: label")
        if not _LABELS.fullmatch(text):
            raise ValueError(text)
        label = np.zeros(self.clips.labels, np.float32)
        for each in text.strip(",").split(","):
            if int32(each, f"{where}: label") >= self.clips.labels:
                raise DataError(f"{where}: label {each} must be below num_of_labels, {self.clips.labels}")
            label[int(each)] = 1
        return label

    def load(self, entry: int) -> tuple[Clip, Any]:
        """Return the clip of an entry, not read yet, and its label."""
        path, (number, label) = self.entries[entry]
        place = self.rounds.position()
        record = place["epoch"] * self.rounds.count + place["index"]
        path = self.root_folder + path
        return Clip(path, number, self.clips, self.seed_of_frames, record, self.size), label

    def position(self) -> dict:
        """Return the position of the list, and the seed of random frames if there are any."""
        return super().position() | ({"frames": self.seed_of_frames} if self.clips.draws else {})

    def seek(self, position: dict) -> None:
        """Restore a position returned by `position`."""
        if self.clips.draws:
            self.seed_of_frames = saved.whole(position, "frames", saved.LARGEST_WORD)
        super().seek(position)


class FrameReader(ClipReader):
    """Endless reader of the frames of one file, each as a clip; `skip` frames are left out before each."""

    def __init__(self, source: str, batch_size: int, skip: int, clips: Clips, share: Share) -> None:
        self._skip = skip
        super().__init__(source, source, batch_size, share=share, clips=clips, seed_of_frames=0)

    def read_entries(self) -> list[tuple[str, Any]]:
        count = video_file(self.source).count()
        return [("", (self.clips.first + i, 0)) for i in range(self._skip, count, self._skip + 1)]
