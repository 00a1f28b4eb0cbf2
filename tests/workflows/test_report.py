"""One file that needs nothing else: no request, no script, the numbers beside chance, what is missing left out."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tinymm.arrays.errors import DataError, UsageError
from tinymm.training.records import RunFolder
from tinymm.viz import style
from tinymm.viz.curves import losses
from tinymm.workflows.report import picture_alt, write_report

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collect tags, and check that every one that opens closes."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "demo-1"
    with RunFolder.create(
        folder,
        {"seed": 3, "data": "<script>alert(1)</script>", "learning_rate": 2e-3},
        ("step", "itc", "validation_r1"),
    ) as run:
        for step in range(1, 41):
            run.append(
                {
                    "step": step,
                    "itc": 9 / step,
                    "validation_r1": step / 40 if step % 10 == 0 else None,
                }
            )
        chance = {"unseen_characters_r1": 1 / 150, "absent": 0.5}
        run.write_results({"unseen_characters_r1": 0.7431, "other": {"r5": 0.9}, "chance": chance})
    figure = losses([{"step": 1, "itc": 9.0}, {"step": 2, "itc": 1.0}], chance={"itc": np.log(128)})
    style.save(figure, folder / "loss.png")
    return folder


def read(path):
    return path.read_text(encoding="utf-8")


def test_it_is_one_file_that_asks_for_nothing(folder):
    text = read(write_report(folder))
    page = Page(text)
    assert "//" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)  # no address of any kind
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "url(" not in text and "@import" not in text
    assert any("default-src 'none'" in attributes.get("content", "") for _, attributes in page.tags)


def test_pictures_are_inside_with_their_alt_text(folder):
    page = Page(read(write_report(folder)))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 1
    assert base64.b64decode(images[0]["src"].split(",")[1]) == (folder / "loss.png").read_bytes()
    assert "ITC fell from 9.00 to 1.00 in 2 steps; equal scores give 4.85" in images[0]["alt"]
    assert picture_alt(folder / "loss.png").startswith("ITC fell")


def test_numbers_stand_beside_their_chance(folder):
    text = read(write_report(folder))
    assert (
        "<span>unseen characters R@1</span><b>0.743</b><span>chance 0.00667</span><small>characters never trained on"
        in text
    )
    words = " ".join(Page(text).words)
    for said in (
        "seed 3",
        "40 steps",
        "other / R@5",
        "0.900",
        "0.002",
        "<script>alert(1)</script>",
        "numpy",
    ):
        assert said in words
    assert "absent" not in words


def test_what_is_missing_is_left_out(folder, tmp_path):
    for name in ("results.json", "loss.png", "metrics.jsonl"):
        (folder / name).unlink()
    page = Page(read(write_report(folder)))
    assert not any(tag in ("img", "details", "ul") for tag, _ in page.tags)
    assert "no steps recorded" in " ".join(page.words)


def test_it_can_be_made_again_and_is_the_same(folder):
    first = read(write_report(folder))
    assert read(write_report(folder)) == first
    assert not list(folder.glob(".*"))


def test_the_curve_as_a_table_has_all_validations(folder):
    text = read(write_report(folder))
    rows = re.search(r"<details>.*?<tbody>(.*?)</tbody>", text, re.DOTALL)[1]
    assert re.findall(r'<th scope="row">(\d+)</th>', rows) == ["10", "20", "30", "40"]


def test_a_resumed_run_says_so(folder):
    RunFolder.resume(folder, 20).close()
    assert "resumed after step 20" in read(write_report(folder))


def test_errors_leave_the_old_page(folder, tmp_path):
    with pytest.raises(UsageError, match="holds none"):
        write_report(tmp_path)
    before = read(write_report(folder))
    (folder / "loss.png").write_bytes((folder / "loss.png").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"loss\.png is not.*draw it again"):
        write_report(folder)
    (folder / "loss.png").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"loss\.png is not"):
        write_report(folder)
    (folder / "results.json").write_text("{")
    with pytest.raises(DataError, match=r"results\.json"):
        write_report(folder)
    assert read(folder / "report.html") == before


def test_a_picture_without_alt_text(folder):
    Image.new("RGB", (4, 4)).save(folder / "similarity.png")
    page = Page(read(write_report(folder)))
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"][0] == ""
