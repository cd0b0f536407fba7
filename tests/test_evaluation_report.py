"""The evaluation as one page, its figures and its JSON."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import DATA
from made_boxes import box, random_boxes, truth_of
from matplotlib.figure import Figure
from PIL import Image

from anchor_detr_jax.data.formats.coco import CocoImage, read_coco_split
from anchor_detr_jax.evaluation import figures
from anchor_detr_jax.evaluation.coco_ap import STATS, score_results
from anchor_detr_jax.evaluation.precision_recall import precision_recall
from anchor_detr_jax.evaluation.report import evaluation_report
from anchor_detr_jax.evaluation.report_page import evaluation_page
from anchor_detr_jax.evaluation.truth import read_truth


def report_of(results, truth):
    return evaluation_report(results, truth, score_results(results, truth))


class Page(HTMLParser):
    """What a browser would find: tags that are closed in order, texts, and pictures."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.pictures, self.tables = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):  # noqa: D102
        if tag == "img":
            kind, data = re.fullmatch(
                r"data:image/(png|jpeg);base64,(.*)", dict(attrs)["src"]
            ).groups()
            picture = Image.open(io.BytesIO(base64.b64decode(data)))
            assert picture.format.lower() == kind
            self.pictures.append((dict(attrs)["alt"], picture))
        elif tag != "meta":
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])

    def handle_endtag(self, tag):  # noqa: D102
        assert self.open.pop() == tag

    def handle_data(self, data):  # noqa: D102
        self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1].append(data)


@pytest.fixture(scope="module")
def made():
    truth, results = random_boxes(3)
    return truth, results, report_of(results, truth)


def test_the_numbers_agree_with_each_other(made):
    truth, results, report = made
    numbers = json.loads(json.dumps(report.to_json(), allow_nan=False))
    scores = score_results(results, truth)
    assert list(numbers["coco"]) == list(STATS)
    np.testing.assert_allclose(list(numbers["coco"].values()), scores.stats)
    assert numbers["errors"]["ap50"] == pytest.approx(numbers["coco"]["AP50"])
    assert (numbers["images"], numbers["detections"]) == (len(truth.image_ids), len(results))
    assert numbers["boxes"] == sum(not a["iscrowd"] for a in truth.annotations)
    assert sum(c["boxes"] for c in numbers["categories"]) == numbers["boxes"]
    assert sum(size["boxes"] for size in numbers["sizes"]) == numbers["boxes"]
    best = numbers["best_threshold"]
    assert best["f1"] == max(point["f1"] for point in numbers["thresholds"])
    assert numbers["errors"]["threshold"] == best["threshold"]
    shown = numbers["errors"]["correct_shown"]
    assert best["recall"] == pytest.approx(shown / numbers["boxes"])
    for column, stat in (
        ("ap", "AP"),
        ("ap50", "AP50"),
        ("ap75", "AP75"),
        ("ap_small", "AP small"),
    ):
        values = [c[column] for c in numbers["categories"] if c[column] is not None]
        assert np.mean(values) == pytest.approx(numbers["coco"][stat])
    for column in ("ap_11", "ap_all"):
        values = [c[column.replace("ap", "voc")] for c in numbers["categories"]]
        assert np.mean(values) == pytest.approx(numbers["voc"][column])
    curves = numbers["precision_recall"]
    assert np.mean(curves["mean"]["0.75"]) == pytest.approx(numbers["coco"]["AP75"], abs=1e-4)
    assert np.mean(list(curves["mean"].values())) == pytest.approx(numbers["coco"]["AP"], abs=1e-4)
    for c in numbers["categories"]:
        curve = curves["per_class_at_iou_0.50"][c["name"]]
        assert np.mean(curve) == pytest.approx(c["ap50"], abs=1e-4)


def test_a_page_of_photographs():
    dataset = read_coco_split(DATA / "coco", "val2017")
    truth = read_truth(dataset.annotations)
    results = [
        {k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.5 + i / 1000}
        for i, a in enumerate(truth.annotations)
        if i % 3
    ]
    report = report_of(results, truth)
    images = {image.id: image for image in dataset.images}
    page = Page(evaluation_page(report, images, subtitle="mine & yours"))
    assert "mine & yours" in page.texts
    assert len(page.pictures) == 8 + len(report.worst)
    for description, picture in page.pictures:
        assert description
        picture.load()
        assert len(np.unique(picture.convert("L"))) > 10
    worst = [text for text in page.texts if re.match(r"\d+\. .*jpg: ", text)]
    assert [images[w.image_id].path.name in t for w, t in zip(report.worst, worst, strict=True)]
    overall = {row[0]: row[1] for row in page.tables[0][1:]}
    for name, value in report.coco.named.items():
        assert overall[name] == ("-" if value is None else f"{value:.3f}")
    assert overall["VOC AP, all points"] == f"{report.voc.ap_all:.3f}"
    rows = {row[0]: row for table in page.tables for row in table}
    assert int(rows["missed"][3]) == report.errors.kinds[-1].all > 0


def test_names_are_text_and_not_html():
    names = {3: "<b>bold</b>", 5: "$x^$ & _y", 8: "_hidden \\frac{"}
    there = [box(1, i, (100 * i, 0, 100 * i + 50, 50)) for i in names]
    found = [{**b, "category_id": 3, "score": 0.5 + i / 10} for i, b in enumerate(there)]
    report = report_of(found, truth_of(there, names=names))
    image = CocoImage(1, DATA / "<i>.jpg", lambda: _jpeg())
    text = evaluation_page(report, {1: image})
    assert "<b>" not in text
    assert "<i>" not in text
    page = Page(text)
    assert "<b>bold</b>" in page.texts
    assert any(t.startswith("1. <i>.jpg: 2 class") for t in page.texts)


def _jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (900, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("found", ["nothing", "everything"])
def test_pages_at_the_edge(found):
    there = [box(1, 3, (0, 0, 50, 50)), box(2, 5, (0, 0, 50, 50), iscrowd=1)]
    results = [{**there[0], "score": 1.0}] if found == "everything" else []
    report = report_of(results, truth_of(there))
    json.dumps(report.to_json(), allow_nan=False)
    page = Page(evaluation_page(report))
    text = " ".join(page.texts)
    assert "There is nothing to find of: dog, cow." in text
    if found == "nothing":
        assert report.best.threshold == 0.5
        assert "no threshold is better" in text
        assert "No detection is right of: cat." in text
        assert "1. image 1: 1 missed; 1.0 together" in text
    else:
        assert "The best F1 is 1.000" in text
        assert "No image has an error." in text


def test_a_data_set_of_nothing():
    report = report_of([], truth_of([]))
    assert report.coco.named["AP"] is None
    assert Page(evaluation_page(report)).pictures


def drawn(figure):
    """A figure's axes, once it is drawn without a warning."""
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png")
    (axes,) = figure.axes
    return axes


def test_figures_show_the_numbers(made):
    report = made[2]
    curves = precision_recall(report.coco)
    mean = drawn(figures.mean_curves_figure(curves))
    np.testing.assert_allclose(mean.lines[0].get_ydata().mean(), report.coco.stats[1])
    assert f"AP {report.coco.stats[2]:.3f}" in mean.lines[3].get_label()
    each = drawn(figures.category_curves_figure(curves))
    best = max(report.coco.per_class, key=lambda c: c.ap50)
    np.testing.assert_allclose(each.lines[0].get_ydata().mean(), best.ap50)
    assert best.name in each.lines[0].get_label()
    gains = drawn(figures.error_gain_figure(report.errors))
    widths = [bar.get_width() for bar in gains.patches]
    np.testing.assert_allclose(widths, [kind.gain for kind in report.errors.kinds])
    numbers = drawn(figures.error_count_figure(report.errors))
    assert [b.get_width() for b in numbers.patches] == [k.shown for k in report.errors.kinds]
    sizes = drawn(figures.size_figure(report.sizes))
    heights = [bar.get_height() for bar in sizes.patches]
    expected = [[s.ap, s.ap50, s.recall] for s in report.sizes]
    np.testing.assert_allclose(heights, np.transpose(expected).ravel())
    thresholds = drawn(figures.threshold_figure(report.scores, report.best))
    assert np.nanmax(thresholds.lines[2].get_ydata()) == report.best.f1
    scores = drawn(figures.score_figure(report.scores))
    counts = [patch.get_data().values for patch in scores.patches]
    # Bins of nothing stand at a half, below what a logarithmic axis shows.
    assert [v[v >= 1].sum() for v in counts] == [
        report.scores.right.sum(),
        report.scores.wrong.sum(),
    ]
    calibrated = drawn(figures.calibration_figure(report.calibration))
    np.testing.assert_array_equal(calibrated.lines[1].get_ydata(), report.calibration.precision)


def test_many_categories_are_grey_and_the_extremes_named():
    truth, results = random_boxes(1, images=60, categories=12)
    curves = precision_recall(score_results(results, truth))
    axes = drawn(figures.category_curves_figure(curves))
    labels = [line.get_label() for line in axes.lines if not line.get_label().startswith("_")]
    ranked = sorted(curves.per_class, key=lambda name: -curves.per_class[name].mean())
    assert [label.partition(":")[0] for label in labels] == [*ranked[:4], *ranked[-4:]]
    assert len(axes.lines) == 12
