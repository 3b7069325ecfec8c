"""A COCO folder made of a VOC folder's set."""

import json
import shutil

from minicaffe.data.annotations import voc


def write_coco(folder, voc_folder, name, classes):
    """Write annotations/instances_<name>.json and the images of a set into `folder`; return the JSON's content.

    Category ids are 3, 6, 9, ... as those of COCO are not contiguous; image ids begin at 100.
    """
    ids = {each: 3 * i for i, each in enumerate(classes, 1)}
    content = {"images": [], "annotations": [], "categories": [{"id": ids[each], "name": each} for each in classes]}
    for part in ("annotations", name):
        (folder / part).mkdir(parents=True)
    for number, (image, xml) in enumerate(voc.read_set(str(voc_folder), name), 100):
        file = image.rpartition("/")[2]
        shutil.copy(voc_folder / image, folder / name / file)
        annotation = voc.read_annotation(str(voc_folder / xml))
        height, width = annotation.size
        content["images"].append({"id": number, "file_name": file, "height": height, "width": width})
        for each in annotation.objects:
            box = [each.xmin, each.ymin, each.xmax - each.xmin, each.ymax - each.ymin]
            one = {"image_id": number, "category_id": ids[each.name], "bbox": box, "iscrowd": int(each.difficult)}
            content["annotations"].append(one)
    (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return content
