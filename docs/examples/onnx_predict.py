"""Find things in a picture: onnxruntime, numpy and Pillow.

    python onnx_predict.py model.onnx picture.jpg

For a file that scripts/export.py wrote without other options.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
form = json.loads(metadata["form"])
categories = json.loads(metadata["categories"])

picture = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
short, long = sorted(picture.size)
scale = min(form["short_side"] / short, form["long_side"] / long)
size = [int(side * scale + 1e-6) for side in picture.size]
resized = picture.resize(size, Image.Resampling.BILINEAR)

inputs = {
    "pixels": np.asarray(resized)[None],  # uint8 [1, h, w, 3]
    "valid_hw": np.array([[resized.height, resized.width]], np.int32),  # no padding
    "original_hw": np.array([[picture.height, picture.width]], np.int32),  # boxes in its pixels
}
boxes, scores, labels = session.run(["boxes", "scores", "labels"], inputs)
for box, score, label in zip(boxes[0], scores[0], labels[0], strict=True):
    if score > 0.5:
        print(f"{categories[label]['name']} {score:.3f} {np.round(box, 1).tolist()}")
