"""Pictures that strangers send."""

from __future__ import annotations

import functools
import io

from PIL import Image, UnidentifiedImageError

from anchor_detr_jax.data.transforms import upright_rgb
from anchor_detr_jax.serving.refusals import Refusal

__all__ = ["decoded"]

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
"""What cameras and browsers make; some of Pillow's other formats start programs."""


def decoded(body: io.BytesIO, max_pixels: int) -> Image.Image:
    """The picture in 8-bit RGB, upright by its EXIF orientation, as `Detector.predict` sees it.

    Raises:
        Refusal: for what is no picture, a damaged one, or one that says it has more pixels; this
            is known before any of them is decoded.
    """
    try:
        with Image.open(body, formats=_formats()) as image:
            if image.width * image.height > max_pixels:
                raise _too_many(f"{image.width}x{image.height}", max_pixels)
            return upright_rgb(image)
    except Refusal:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many("many more", max_pixels) from None
    except UnidentifiedImageError:
        size, kinds = body.getbuffer().nbytes, ", ".join(_formats())
        message = f"the body ({size} bytes) is no picture that can be read; expected {kinds}"
        raise Refusal(415, "no picture", message) from None
    except Exception as error:  # on damaged files, decoders raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"the picture is damaged ({reason}); expected a whole one"
        raise Refusal(400, "damaged", message) from None


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _too_many(came: str, max_pixels: int) -> Refusal:
    message = f"the picture says it has {came} pixels; at most {max_pixels} are taken"
    return Refusal(413, "pixels", message)
