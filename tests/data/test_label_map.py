"""Label maps: the prototxts that name the classes of detection data sets."""

import pytest

from minicaffe.data.label_map import read_label_map
from minicaffe.errors import DataError


def write(tmp_path, text):
    path = tmp_path / "labelmap.prototxt"
    path.write_text(text)
    return path


def test_names_labels_and_display_names(tmp_path):
    classes = read_label_map(
        write(
            tmp_path,
            'item { name: "none_of_the_above" label: 0 display_name: "background" } item { name: "dog" label: 12 }',
        )
    )
    assert classes.names == {0: "none_of_the_above", 12: "dog"}
    assert classes.display_names == {0: "background", 12: "dog"}
    assert classes.labels == {"none_of_the_above": 0, "dog": 12}
    assert classes.label_of("dog") == 12
    with pytest.raises(DataError, match=r"has no class 'dig' \(did you mean \"dog\"\?\)"):
        classes.label_of("dig")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "has no item"),
        ('item { name: "dog" }', 'item 0 must have a name and a label, got name: "dog"'),
        ("item { label: 3 }", "item 0 must have a name and a label, got label: 3"),
        ('item { name: "a" label: 1 } item { name: "b" label: 1 }', "item 1 repeats .*: b, 1"),
        ('item { name: "a" label: 1 } item { name: "a" label: 2 }', "item 1 repeats .*: a, 2"),
        ('layer { name: "a" }', 'cannot read label map .*LabelMap has no field "layer"'),
    ],
)
def test_errors(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_label_map(write(tmp_path, text))


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot read label map"):
        read_label_map(tmp_path / "missing")
