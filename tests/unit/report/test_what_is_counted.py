"""The pages of a network that takes no images don't speak of images."""

from __future__ import annotations

import io
import re

import pandas
from rich.console import Console

from harness.report.choose import Limits
from harness.report.compare import compare, print_comparison
from harness.report.findings import find
from harness.report.page import comparison_page, page
from harness.report.study import open_study
from harness.report.table import print_table


def test_table_page_and_comparison_of_a_text_network_never_speak_of_images(row, folder):
    rows = [
        row(model="text_encoder:text_encoder", sample="sample", batch=batch, **{"roofline/gflop_per_image": 0.5})
        for batch in (4, 8)
    ]
    before, after = (open_study(str(folder(name, *rows))) for name in ("before", "after"))
    written = io.StringIO()
    console = Console(file=written, width=160)
    print_table(console, pandas.DataFrame(rows), None)
    comparison = compare(before, after)
    print_comparison(console, comparison)
    written.write(page(before, find(before, Limits())) + comparison_page(comparison, ()))
    text = re.sub(r"<style>.*?</style>", "", written.getvalue(), flags=re.S)
    for said in ("samples/s: grouped + fusion", "GFLOP/sample", "before, samples/s", "samples/s (wall), "):
        assert said in text
    assert not re.search(r"\bimages?\b", text, re.I)
